"""Reads a relay's trends with Mastodon.py, and prints what it found.

usage: trends.py BASE_URL
"""

import json
import sys

from mastodon import Mastodon

client = Mastodon(api_base_url=sys.argv[1])
tags = client.trending_tags(limit=5)
print(
    json.dumps(
        {
            "version": client.retrieve_mastodon_version(),
            "tags": [[tag.name, tag.url, [[str(day.day), int(day.uses), int(day.accounts)] for day in tag.history]] for tag in tags],
            "links": [
                [link.url, link.title, link.type, len(link.authors), len(link.history), int(link.history[0].accounts)]
                for link in client.trending_links(limit=5)
            ],
            "statuses": [[status.uri, status.account.acct] for status in client.trending_statuses(limit=5)],
        }
    )
)
