"""Checks a relay's list of trends by its explanations; exits 1 and names each number that differs. usage: recompute_trends.py https://relay.example [hours] [language]"""
import json, math, sys, time, urllib.parse, urllib.request

base, hours, language = sys.argv[1:4] + ["6", ""][len(sys.argv) - 2:]
whole = lambda number: round(number * 10**6)  # in millionths, as everything is computed
ask = lambda path, **query: time.sleep(0.2) or json.load(urllib.request.urlopen(f"{base}/api/v1/trends/{path}?within={hours}{language and '&language='}{language}&{urllib.parse.urlencode(query)}"))
adds = lambda group: math.isqrt(group["people"] * 10**12) * round(group["weight"] * 1000) // 1000  # weight · √people

def listing():  # all of it, of one moment
    first, rest = (ask("list", limit=100, offset=offset) for offset in (0, 100))
    return (first["at"], {one["key"]: one for one in first["trends"] + rest["trends"]}) if first["at"] == rest["at"] else listing()

def numbers(found):
    now, days, adds_each = found["now"], found["days"], sorted((adds(group) for group in found["now"]["of_servers"] for _ in range(group["servers"])), reverse=True)
    each = [min(one, adds_each[3]) for one in adds_each] if len(adds_each) > 3 else []  # no server counts for more than the fourth largest
    r, n, e = sum(each), sum(each) ** 2 * 10**6 // max(1, sum(one**2 for one in each)), max(whole(found[day]["reach"]) for day in ("yesterday", "last_week"))
    people, servers = sum(group["servers"] * group["people"] for group in now["of_servers"]), len(adds_each)
    if days:  # of a week the mean of its days, compared with that of the week before
        r, n, e = (sum(whole(day[what]) for day in of) // 7 for what, of in (("reach", days), ("spread", days), ("reach", found["days_before"])))
        people, servers = now["people"], now["servers"]
    z = (r - e) / 10**6 / math.sqrt(e / 10**6 + 1) * found["fresh"]
    return {"people": people, "servers": servers, "reach": r / 10**6, "spread": n / 10**6, "usual": e / 10**6, "score": z, "rank": round(min(100, 1 + 99 * math.log10(max(z, 3) / 3) / 3))}

(at, listed), good, tries = listing(), {}, 0
while left := [key for key in listed if key not in good]:
    found = ask("explain", tag=left[0], at=at)  # says when it is of another moment than the list, which was made anew
    again, one = found["now"] and numbers(found) or {}, listed[left[0]] | {"usual": listed[left[0]]["usual"]["reach"]}
    wrong = [f"{name} is {again[name]}, listed is {one[name]}" for name in again if again[name] != one[name]]
    tries = tries + 1 if wrong or found["at"] != at else 0
    if tries > 9: sys.exit(f"#{left[0]}: {'; '.join(wrong) or 'the list changes too fast'}")
    good, (at, listed) = (good | {left[0]: again}, (at, listed)) if tries == 0 else (good, listing())
order = sorted(listed, key=lambda key: (-listed[key]["score"], -listed[key]["people"], key))
if order != list(listed): sys.exit(f"the order differs: it should be {order}")
print(json.dumps({"equal": True, "tags": [{"tag": key} | good[key] for key in order]}))
