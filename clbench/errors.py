"""The one exception a user's mistake raises."""


class ClbenchError(Exception):
    """A mistake the user can mend: its message names the value, the reason and the way out.

    The command line prints the message as one line and exits with code 2.
    """
