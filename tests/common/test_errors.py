"""Every error is one line that can be printed anywhere."""

import pytest

from kerasbn.common.errors import ArgumentError, CheckFailedError, InputError, KerasbnError


@pytest.mark.parametrize("kind", [KerasbnError, InputError, CheckFailedError])
def test_a_message_is_one_line(kind: type[KerasbnError]) -> None:
    message = str(kind("a\nb\r\u2028\x1b[31m\0\udcff ü 数"))
    assert message == r"a\nb\r\u2028\x1b[31m\x00\udcff ü 数"
    message.encode()


def test_the_middle_of_a_long_message_is_left_out() -> None:
    message = str(InputError(f"begin{'x' * 10**6}end"))
    assert len(message) < 1100
    assert message.startswith("begin")
    assert "..." in message
    assert message.endswith("end")


def test_an_argument_on_the_command_line_is_one_line() -> None:
    error = ArgumentError("data_dir", "a\nb", "the path of a folder")
    assert error.for_command_line().startswith(r"--data-dir a\nb: received 'a\nb', expected")
