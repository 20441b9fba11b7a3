"""Computes a relay's list of trends again from its explanations. usage: recompute_trends.py https://relay.example [hours]"""
import json, math, sys, urllib.parse, urllib.request
base, hours = sys.argv[1], (sys.argv[2:] or ["6"])[0]
ask = lambda path, **query: json.load(urllib.request.urlopen(f"{base}/api/v1/trends/{path}?{urllib.parse.urlencode(query)}"))
adds = lambda group: math.isqrt(group["people"] * 10**12) * round(group["weight"] * 1000) // 1000  # weight · √people, in millionths

def score(tag):
    found = ask("explain", tag=tag, within=hours)
    groups = [group for group in found["now"]["of_servers"] for _ in range(group["servers"])]
    counts = [min(one, sorted(map(adds, groups))[-4]) for one in map(adds, groups)]  # no server for more than the fourth
    reach = sum(counts)  # R
    spread = reach**2 * 10**6 // sum(one**2 for one in counts)  # N
    usual = round(max(found["yesterday"]["reach"], found["last_week"]["reach"]) * 10**6)  # E
    z = (reach - usual) / 10**6 / math.sqrt(usual / 10**6 + 1)
    rank = round(min(100, 1 + 99 * math.log10(max(z, 3) / 3) / 3))
    assert (reach / 10**6, spread / 10**6, z, rank) == tuple(found[k][v] if v else found[k] for k, v in (("now", "reach"), ("now", "spread"), ("score", ""), ("rank", ""))), tag
    return z, sum(group["people"] for group in groups)

listed = [one["key"] for one in ask("list", within=hours, limit=100)["tags"]]
again = sorted(((*(-number for number in score(tag)), tag) for tag in listed))
print(json.dumps({"equal": [tag for *_, tag in again] == listed, "tags": [{"tag": tag, "score": -z, "people": -people} for z, people, tag in again]}))
