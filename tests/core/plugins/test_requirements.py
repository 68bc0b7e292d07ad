"""Requirements and versions follow PEP 440 and PEP 508, and invalid ones raise no unexpected error."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet

from hvcore.plugins.catalogue import Verdict, _fits
from hvcore.plugins.requirements import missing, range_of, required, unmet

ENTRY = "[hvcore.drivers]\nacme = hv_acme:Driver\n"


@pytest.mark.parametrize(
    ("requires", "version", "holds"),
    [
        (">=0.1", "0.1.0", True),
        (">=0.1", "0.0.9", False),
        ("<0.2", "0.1.99", True),
        ("<0.2", "0.2.0", False),
        ("<=0.1", "0.1.0", True),
        ("<=0.1", "0.1.1", False),
        (">0.1", "0.1.0", False),
        ("==0.1", "0.1.0.0", True),
        ("!=0.1.0", "0.1", False),
        ("~=0.1", "0.9.3", True),
        ("~=0.1", "1.0", False),
        ("~=0.1.2", "0.1.9", True),
        ("~=0.1.2", "0.2.0", False),
        ("~=0.1.2", "0.1.1", False),
        ("==0.*", "0.7", True),
        ("==0.0.*", "0.1", False),
        ("==0.1.*", "0.1.5", True),
        ("!=0.1.*", "0.1.5", False),
        ("!=0.1.*", "0.2.5", True),
        (">=0.1,<0.2", "0.2.0.dev1", False),  # a pre-release of 0.2 is not yet 0.2, and is not meant by "before 0.2"
        (">=0.1,<0.2", "0.2rc1", False),
        (">=0.1", "0.1.0rc1", False),
        (">=0.1rc1", "0.1.0rc1", True),
        (">=0.1,<0.3", "0.2.0a1", True),
        ("~=0.1", "0.2.0b1", True),
        ("<=0.1", "0.1.0.post1", False),
        (">0.1", "0.1.0.post1", False),
        ("==0.1.*", "0.1.0.post1", True),
        ("<1!0.1", "9.0", True),  # an epoch
        (">=0.1", "1!0.0", True),
        ("==0.1", "1!0.1", False),
        ("==0.1.0", "0.1.0+debian1", True),
        ("===0.1", "0.1.0", False),
        ("!=0.1.3,>=0.1", "0.1.3", False),
        ("!=0.1.3,>=0.1", "0.1.4", True),
        ("~=0.1.2", "0.1.2rc1", False),
    ],
)
def test_ranges_mean_what_pep_440_says(requires: str, version: str, holds: bool) -> None:  # noqa: FBT001
    assert (unmet(SpecifierSet(requires), version) is None) is holds
    assert (_fits([f"hvcore{requires}"], version)[1] is Verdict.OK) is holds


@pytest.mark.parametrize(
    ("requires", "version", "verdict"),
    [
        (">=0.1,<0.2", "0.2", Verdict.TOO_OLD),
        (">=0.1,<0.2", "0.0.9", Verdict.TOO_NEW),
        ("~=0.1.0", "0.2", Verdict.TOO_OLD),
        ("~=0.3", "0.2", Verdict.TOO_NEW),
        ("==0.1.*", "0.2", Verdict.TOO_OLD),
        ("==0.3.*", "0.2", Verdict.TOO_NEW),
        (">=0.2", "0.2rc1", Verdict.TOO_NEW),
        ("===zwei", "0.2", Verdict.TOO_NEW),
    ],
)
def test_the_unmet_clause_decides_which_side_to_upgrade(requires: str, version: str, verdict: Verdict) -> None:
    todo = {Verdict.TOO_OLD: "upgrade the driver", Verdict.TOO_NEW: "upgrade hvcore"}[verdict]
    reason = f"needs hvcore{SpecifierSet(requires)}, installed is {version}; {todo}"
    assert _fits([f"hvcore{requires}"], version)[1:] == (verdict, reason)


def test_a_range_is_read_from_the_requirement_of_hvcore_and_no_other() -> None:
    lines = ["hvcore-extra>=9", "hvcores>=9", "click>=8", 'hvcore[cli] (<0.2,>=0.1) ; python_version > "3"']
    assert str(range_of("hvcore", lines)) == "<0.2,>=0.1"
    assert str(range_of("hvcore", ["click"])) == ""
    assert _fits([], "0.1")[1:] == (Verdict.OK, None)


def test_requirements_of_one_distribution_add_up_where_their_markers_hold() -> None:
    lines = [
        "HVcore>=0.1",
        'hvcore<0.2 ; python_version >= "3"',
        'hvcore>=7 ; python_version < "3"',
        'hvcore[cli]>=8 ; extra == "cli"',
    ]
    assert range_of("hvcore", lines) == SpecifierSet(">=0.1,<0.2")


@pytest.mark.parametrize(
    "line", ["hvcore>=abc", "hvcore >=", "hvcore>=1.*", "hvcore[cli", "hvcore ; python >", "hvcore ; os_name ~= 'a'"]
)
def test_an_invalid_requirement_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"^hvcore") as caught:
        range_of("hvcore", ["click>=", line])
    assert str(caught.value) == line


def test_a_requirement_is_missing_unless_a_fitting_version_is_installed(install) -> None:  # type: ignore[no-untyped-def]
    lines = [
        "hvcore>=0.1,<0.2",
        'nothing-of-the-kind>=4 ; python_version >= "3"',
        'nothing-for-this-python ; python_version < "3"',
        'nothing-but-for-an-extra ; extra == "x"',
        "hv-old[fast]>=2",
        "hv-odd>=2",
        "hv-early>=2.0rc1",
        "???",
    ]
    install("hv-acme", ENTRY, requires="\nRequires-Dist: ".join(lines))
    install("hv-old", "", version="1.9")
    install("hv-odd", "", version="one")
    install("hv-early", "", version="2.0rc1")
    assert missing("hv-acme") == ["nothing-of-the-kind>=4", "hv-old[fast]>=2"]
    assert required("hv-acme") == {"hvcore", "nothing-of-the-kind", "hv-old", "hv-odd", "hv-early"}
    assert missing("no-such-distribution") == []
