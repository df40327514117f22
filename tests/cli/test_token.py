"""Tokens for the HTTP API: shown once, listed without their secrets, revoked."""

from __future__ import annotations

from air_executor.http import tokens
from tests.cli.conftest import Cli


def test_a_token_from_its_creation_to_its_end(cli: Cli) -> None:
    made = cli("token", "create", "night ly", "--scope", "submit", "--scope", "read", "--expires", "30d")
    parts = tokens.parse(made.stdout.removesuffix("\n"))
    assert parts is not None and "not shown again" in made.stderr
    listed = cli("token", "list")
    assert "night ly" in listed.stdout and "read,submit" in listed.stdout and "valid" in listed.stdout
    assert parts[1] not in listed.stdout + made.stderr
    assert cli.json("token", "revoke", parts[0])["name"] == "night ly"
    (facts,) = cli.json("token", "list")
    assert (facts["standing"], facts["scopes"], facts["last_used_at"]) == ("revoked", ["read", "submit"], None)


def test_what_makes_no_token(cli: Cli) -> None:
    assert "choose from" in cli.refused("token", "create", "a", "--scope", "all", code=2)
    assert "--scope" in cli.refused("token", "create", "a", code=2)
    assert "1 to 100 characters" in cli.refused("token", "create", "", "--scope", "read", code=2)
    assert "no span of time with its unit" in cli.refused(
        "token", "create", "a", "--scope", "read", "--expires", "30", code=2
    )
    cli("token", "create", "a", "--scope", "read")
    assert "there is no token" in cli.refused("token", "revoke", "../x", code=4)


def test_a_token_is_revoked_by_its_id_or_by_all_of_it(cli: Cli) -> None:
    texts = [cli.json("token", "create", "nightly", "--scope", "read")["token"] for _ in range(2)]
    ids = [text.split("_")[1] for text in texts]
    said = cli.refused("token", "revoke", "nightly", code=4)
    assert "'nightly' is a name" in said
    assert all(each in said for each in ids)
    assert cli.json("token", "revoke", texts[0])["id"] == ids[0]
    assert [each["standing"] for each in cli.json("token", "list")] == ["revoked", "valid"]
    secret = texts[1].split("_")[2]
    for damaged in (f"{texts[1]}0", secret):
        assert "there is no token" in (said := cli.refused("token", "revoke", damaged, code=4))
        assert secret[:6] not in said
    assert cli.json("token", "revoke", texts[1].removeprefix("ax_"))["id"] == ids[1]


def test_other_hosts_are_not_served_without_tls(cli: Cli) -> None:
    assert "tls_cert" in cli.refused("serve", "--host", "0.0.0.0", code=2)
    assert "port" in cli.refused("serve", "--port", "70000", code=2)
