"""Names and sizes of the tiny models and posts."""

VISUAL_SIZE = 8
LABELS = ["peer", "None", "member_of", "located_in"]  # the none label is deliberately not id 0
WORDS = "ann met bob in paris with the band they played a red car next to big stage and blue sky at night".split()
