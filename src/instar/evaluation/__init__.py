"""How good the classifier is: on crops, on whole photographs, and against another identifier."""
