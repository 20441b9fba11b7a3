//! What subscribers cost that are dead: memory, and requests that lead nowhere.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use shearwater::clock::Clock;
use shearwater::ids::{Authority, Iri};
use shearwater::store::{AuthorityFacts, Health, Mode, Registration, Store, Style, Subscriber, SubscriberState};

use crate::Call;
use crate::stage::{Setting, Stage};

/// Rows written in one transaction.
const BULK: usize = 500;
/// Failures that they have behind them, on how many days: not dormant yet, so tried six times a day, and owed all.
const FAILURES: u32 = 20;
const DAYS: u32 = 5;
/// Posts that they are owed, and that the living get.
const POSTS: usize = 20;
/// What so many may cost, in KiB each in a release build, and in attempts a second for ten thousand. Measured are five:
/// `docs/PERFORMANCE.md` says where they are.
const KIB_EACH: f64 = 6.0;
const ATTEMPTS: f64 = 2.0;
/// How long attempts are counted, once each has failed once more.
const WATCHED: Duration = Duration::from_secs(30);

/// `dead COUNT`: so many subscribers that refuse connections, beside four that live.
pub(crate) fn dead(call: &Call) -> anyhow::Result<String> {
    let env = vec![
        ("SHEARWATER_DELIVERY__RETRY", "30s,2m,10m,1h,4h".to_owned()),
        ("SHEARWATER_DELIVERY__RAMP", "2s".to_owned()),
    ];
    let mut stage = Stage::set(Setting { env, ..Setting::of(4) })?;
    restart(&mut stage)?;
    exercise(&mut stage)?;
    let before = resident(&stage)?;
    stage.stop()?;
    fill(&stage, call.count)?;
    stage.start()?;
    exercise(&mut stage)?;
    let began = Instant::now();
    while failures(&stage)? < call.count as f64 {
        ensure!(began.elapsed() < Duration::from_secs(300), "not each was tried: {} failures", failures(&stage)?);
        std::thread::sleep(Duration::from_millis(200));
    }
    let all_failed = began.elapsed();
    exercise(&mut stage)?;
    let (counted, began) = (failures(&stage)?, Instant::now());
    std::thread::sleep(if call.brief { WATCHED / 10 } else { WATCHED });
    let a_second = (failures(&stage)? - counted) / began.elapsed().as_secs_f64();
    let after = resident(&stage)?;
    let each = after.saturating_sub(before) as f64 / call.count as f64;
    let said = format!(
        "  {} dead subscribers: resident {} KiB without them, {} KiB with them when each had failed once more and waits: {each:.1} KiB each\n  \
         each had failed within {:.1} s after the start; {a_second:.2} attempts a second after that",
        call.count,
        before,
        after,
        all_failed.as_secs_f64()
    );
    let verdict = stage.judge()?;
    if let Some(broken) = verdict.broken(0) {
        bail!("{said}\n{broken}\n{verdict}\n{}", stage.said());
    }
    // Of few the fixed part of a start is most of it, and a debug build is larger.
    ensure!(call.brief || each <= KIB_EACH, "{said}\n  {KIB_EACH} KiB each are allowed");
    ensure!(a_second <= ATTEMPTS, "{said}\n  {ATTEMPTS} attempts a second are allowed");
    Ok(said)
}

fn restart(stage: &mut Stage) -> anyhow::Result<()> {
    stage.stop()?;
    stage.start()
}

/// The living get posts, so that what delivery needs anyhow is there.
fn exercise(stage: &mut Stage) -> anyhow::Result<()> {
    ensure!(stage.post(POSTS)? == POSTS, "posts are not taken");
    stage.drain()?;
    Ok(())
}

fn fill(stage: &Stage, count: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let clock = Clock::system();
    let store = Store::open(&stage.data(), clock.clone())?;
    let head = shearwater::log::Log::open(&store)?.head();
    runtime.block_on(async {
        for start in (0..count).step_by(BULK) {
            let rows: Vec<Subscriber> = (start..count.min(start + BULK))
                .map(|number| dead_one(number, &clock, head.next()))
                .collect::<Result<_, _>>()?;
            let put = store.write(move |tx| {
                for mut row in rows {
                    row.slot = tx.new_slot()?;
                    let facts = AuthorityFacts { software: Some("mastodon".to_owned()), ..AuthorityFacts::default() };
                    tx.put(row.authority.as_str(), &facts)?;
                    tx.put_subscriber(row)?;
                }
                Ok(())
            });
            put.await?;
        }
        anyhow::Ok(())
    })
}

/// Nobody listens on the discard port of these addresses: a connection is refused at once.
fn dead_one(number: usize, clock: &Clock, start: shearwater::ids::Seq) -> anyhow::Result<Subscriber> {
    let origin = format!("http://127.20.{}.{}:9", number / 250, number % 250 + 1);
    let at = |path: &str| Iri::parse(&format!("{origin}{path}"));
    let day = Duration::from_secs(24 * 3600);
    let now = clock.now();
    Ok(Subscriber {
        authority: Authority::parse(origin.trim_start_matches("http://")).context("an authority")?,
        slot: 0,
        state: SubscriberState::Active,
        start,
        mode: Mode::Auto,
        registrations: vec![Registration {
            actor: at("/actor")?,
            style: Style::Mastodon,
            inbox: at("/inbox")?,
            actor_inbox: at("/actor/inbox")?,
            follow:
                (&json!({ "id": format!("{origin}/follow"), "type": "Follow", "actor": format!("{origin}/actor") }))
                    .into(),
            at: now,
            personal: false,
        }],
        joined_at: now.minus(day * (DAYS + 1)),
        seen_at: now.minus(day * (DAYS + 1)),
        health: Health {
            consecutive: FAILURES,
            failed_days: DAYS,
            // Long ago: each is tried again at once, and then waits.
            last_failure: Some(now.minus(day)),
            last_reason: Some("connect".to_owned()),
            failing_since: Some(now.minus(day * DAYS)),
            ..Health::default()
        },
        vouched_for: false,
        paused: None,
        posts: 0,
    })
}

/// Resident memory of the relay, in KiB.
fn resident(stage: &Stage) -> anyhow::Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Attempts that failed since the start, as the relay counts them.
fn failures(stage: &Stage) -> anyhow::Result<f64> {
    let endpoints: serde_json::Value = serde_json::from_slice(&std::fs::read(stage.data().join("endpoints.json"))?)?;
    let mut stream = TcpStream::connect(endpoints["ops"].as_str().context("no ops listener")?)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let count = text.lines().find_map(|line| line.strip_prefix("shearwater_deliveries_total{result=\"later\"} "));
    Ok(count.map_or(Ok(0.0), str::parse)?)
}
