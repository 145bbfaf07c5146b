"""The one exception whose message is written for the person who runs instar."""


class InputError(Exception):
    """Something outside the program is wrong: a file, a row, a key, a value.

    The message is one line that names the thing, its value and the remedy; the command line prints it without a
    traceback and exits with status 2.
    """
