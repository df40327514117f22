"""What can go wrong, each with the sentence that the user sees."""


class DevError(Exception):
    """Cannot go on; the text is complete, and ends the program with exit code 1."""


class StopRequested(Exception):
    """Somebody asked for the end: SIGTERM, SIGINT or SIGHUP.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
