"""Asks a relay's search with the libraries that people's own programs use, and prints what each of them found.

usage: ask.py BASE_URL TOKEN QUERY

Mastodon.py pages through as its users do; toot is run as its command, with a login of its own.
"""

import json
import os
import subprocess
import sys
import tempfile

from mastodon import Mastodon

PAGE = 10


def by_mastodon_py(base: str, token: str, query: str) -> list[str]:
    client = Mastodon(api_base_url=base, access_token=token)
    found: list[str] = []
    while True:
        page = client.search_v2(query, result_type="statuses", limit=PAGE, offset=len(found)).statuses
        found += [status.uri for status in page]
        if len(page) < PAGE:
            return found


def by_toot(base: str, token: str, query: str) -> list[str]:
    with tempfile.TemporaryDirectory() as home:
        os.mkdir(os.path.join(home, "toot"))
        app = {"instance": "relay", "base_url": base, "client_id": "none", "client_secret": "none"}
        user = {"instance": "relay", "username": "me", "access_token": token}
        config = {"apps": {"relay": app}, "users": {"me@relay": user}, "active_user": "me@relay"}
        with open(os.path.join(home, "toot", "config.json"), "w") as file:
            json.dump(config, file)
        program = os.path.join(os.path.dirname(sys.executable), "toot")
        found: list[str] = []
        while True:
            command = [program, "search", query, "--type", "statuses", "--limit", str(PAGE), "--offset", str(len(found)), "--json"]
            said = subprocess.run(command, capture_output=True, text=True, check=True, env={"XDG_CONFIG_HOME": home, "HOME": home})
            page = json.loads(said.stdout)["statuses"]
            found += [status["uri"] for status in page]
            if len(page) < PAGE:
                return found


if __name__ == "__main__":
    base, token, query = sys.argv[1:]
    print(json.dumps({"Mastodon.py": by_mastodon_py(base, token, query), "toot": by_toot(base, token, query)}))
