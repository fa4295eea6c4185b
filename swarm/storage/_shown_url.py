"""URLs as messages and logs show them: without passwords. Pure."""

import re
from typing import Final

_USER_INFO: Final = re.compile(r"(?<=//)([^/?#:@]*):\S*(?=@)")
_OPTION: Final = re.compile(r"(?i)(?<=[?&])((?:\w*_)?password=)[^&#]*")


def shown_url(url: str) -> str:
    """Return a URL with "***" in place of its passwords."""
    return _OPTION.sub(r"\1***", _USER_INFO.sub(r"\1:***", url))
