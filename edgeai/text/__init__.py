"""Text as sentences, words, links and pieces, before any model sees it."""
