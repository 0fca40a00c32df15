"""The one way in which a law says no."""


class Refused(Exception):  # noqa: N818 - an answer within the plan, never an error a user sees
    """A law does not hold here; the message is the clause of a sentence that says why."""
