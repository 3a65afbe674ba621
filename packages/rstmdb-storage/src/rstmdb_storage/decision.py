"""The decision of recovery: where the log ends, or that it is damaged. A table, and nothing that acts.

The last segment is read to the first place where no valid frame follows. What stands there is one of

==========  =================================================================================
place       what is there
==========  =================================================================================
BLANK       zeros, or the end of the file
PARTIAL     a sector's part of a header, or its end, is zero or missing
GARBLED     all of a header, failing its check
HOLED       a sound header; a sector's part of its body, or its end, is zero or missing
WHOLE       a sound header and all of its body, failing the check
MISPLACED   a valid frame, which does not follow on the one before
==========  =================================================================================

and behind it are ZEROS only, JUNK (something, and no valid frame), or valid FRAMES. The place is PROVEN if
it was synced once: a frame that anyone has read says that the file was synced beyond it, or that a
sequence from here on was durable; or the newest snapshot holds such a sequence. Otherwise it belongs to
what was being written when the log ended. So:

==========  ============  ==============  ==============  ==============
            PROVEN, any   ZEROS behind    JUNK behind     FRAMES behind
==========  ============  ==============  ==============  ==============
BLANK       refuse        **end**         cut             cut
PARTIAL     refuse        cut             cut             cut
GARBLED     refuse        refuse          refuse          refuse
HOLED       refuse        cut             cut             cut
WHOLE       refuse        refuse          refuse          refuse
MISPLACED   refuse        refuse          refuse          refuse
==========  ============  ==============  ==============  ==============

*Cut* means torn: a sector that was never written shows in it, and nobody was promised what it was part of.
*Refuse* means corrupt: the file, the position and the reason are told, and nothing is touched. Damage that
zeroes whole sectors of the last acknowledged commit cannot be told from a torn write; the mark that is
written after a second of rest proves that commit, and so closes this window.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["DECISIONS", "REASONS", "Behind", "Place", "Verdict"]


class Place(Enum):
    """What stands at the first place where no valid frame follows."""

    BLANK = "blank"
    PARTIAL = "partial"
    GARBLED = "garbled"
    HOLED = "holed"
    WHOLE = "whole"
    MISPLACED = "misplaced"


class Behind(Enum):
    """What stands behind that place, to the end of the file."""

    ZEROS = "zeros"
    JUNK = "junk"
    FRAMES = "frames"


class Verdict(Enum):
    """What to do with it."""

    END = "end"
    CUT = "cut"
    REFUSE = "refuse"


_TORN: Final = (Place.PARTIAL, Place.HOLED)
DECISIONS: Final[dict[tuple[bool, Place, Behind], Verdict]] = {
    **{
        (proven, place, behind): Verdict.REFUSE
        for proven in (True, False)
        for place in Place
        for behind in Behind
    },
    **{(False, place, behind): Verdict.CUT for place in _TORN for behind in Behind},
    (False, Place.BLANK, Behind.ZEROS): Verdict.END,
    (False, Place.BLANK, Behind.JUNK): Verdict.CUT,
    (False, Place.BLANK, Behind.FRAMES): Verdict.CUT,
}
"""The table of the module's docstring: (proven, place, behind) to verdict."""

REASONS: Final = {
    Place.BLANK: "the log ends here",
    Place.PARTIAL: "a frame header is incomplete",
    Place.GARBLED: "a frame header fails its check",
    Place.HOLED: "a frame is incomplete",
    Place.WHOLE: "a frame fails its check",
    Place.MISPLACED: "a valid frame does not follow on the one before",
}
