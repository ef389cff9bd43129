"""Are answers right on questions of one's own? Retrieval and answers scored apart, runs compared, with no judge model.

Words, numbers and places are compared: a right answer in other words than those accepted counts as wrong.
"""
