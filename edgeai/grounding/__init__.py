"""What an answer rests on: which words of which passage, how sure that is, and where documents disagree."""
