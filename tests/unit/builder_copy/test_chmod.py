"""Modes as chmod(1) and BuildKit read them."""

import pytest

from moldar.builder.chmod import InvalidMode, parse_mode


@pytest.mark.parametrize(
    ("text", "mode", "is_directory", "expected"),
    [
        ("", 0o640, False, 0o640),
        ("0751", 0o600, False, 0o751),
        ("4755", 0o600, False, 0o4755),
        ("00000644", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("u=rwX,go=rX", 0o700, True, 0o755),
        ("g+w,o=", 0o604, False, 0o620),
        ("a+x", 0o644, False, 0o755),
        ("+w", 0o444, False, 0o644),
        ("-w", 0o666, False, 0o466),
        ("go=u", 0o640, False, 0o666),
        ("u+s,g+s,+t", 0o755, False, 0o7755),
        ("u=rw", 0o4755, False, 0o655),
        ("g=rx", 0o2770, True, 0o2750),
        ("ug+r-x", 0o111, False, 0o441),
    ],
)
def test_modes(text: str, mode: int, is_directory: bool, expected: int) -> None:
    assert oct(parse_mode(text).apply(mode, is_directory)) == oct(expected)


@pytest.mark.parametrize("text", ["0999", "10000", "8", "u=rwz", "rwx", "u", "u+r,,o-r", "7x", "u=rw,go", "0x1ff"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(InvalidMode, match="invalid chmod parameter"):
        parse_mode(text)
