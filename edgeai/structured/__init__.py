"""Answers that have a form: JSON as a schema describes it, or one label of several, with citations like any other."""
