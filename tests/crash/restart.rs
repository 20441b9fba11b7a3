//! A start with much in the log: ready soon, whether the last end was good or bad; and no stampede.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use shearwater::clock::Clock;
use shearwater::ids::Iri;
use shearwater::log::{Draft, Kind, Log};
use shearwater::store::Store;

use crate::Call;
use crate::stage::{Setting, Stage};

/// Entries appended in one transaction.
const BULK: usize = 2_000;
/// Ready within so long, with a million entries that everybody is owed.
const READY: Duration = Duration::from_secs(2);
/// Objects of the bulk have numbers from here on, out of the way of the witness's own.
const FIRST: usize = 10_000_000;
/// What an entry's body is padded to: that of a short post.
const BODY: usize = 1_200;

/// `million ENTRIES [FOLDER]`: the folder is kept.
pub(crate) fn million(call: &Call) -> anyhow::Result<String> {
    let place = call.words.first().map(PathBuf::from);
    let mut stage = Stage::set(Setting { place, ..Setting::of(4) })?;
    stage.stop()?;
    let began = Instant::now();
    fill(&stage, call.count)?;
    let filled = began.elapsed();
    for member in 0..4 {
        stage.mood(member, "busy")?;
    }
    stage.starts.clear();
    stage.start()?;
    stage.load(8)?;
    std::thread::sleep(Duration::from_secs(2));
    stage.kill()?;
    stage.start()?;
    stage.pause()?;
    let acknowledged = stage.count()?.0;
    ensure!(acknowledged > 0, "with so much in the log it takes nothing");
    stage.stop()?;
    stage.start()?;
    let size = std::fs::metadata(stage.data().join("shearwater.redb"))?.len() >> 20;
    let times: Vec<String> = stage.starts.iter().map(|took| format!("{} ms", took.as_millis())).collect();
    let said = format!(
        "  {} entries ({size} MiB, written in {} s) owed to 4 subscribers; ready after a bulk import in {}, after SIGKILL in {}, after SIGTERM in {}",
        call.count,
        filled.as_secs(),
        times[0],
        times[1],
        times[2]
    );
    // Beside other tests on a busy machine, only that it is not out of all proportion.
    let limit = if call.brief { READY * 10 } else { READY };
    ensure!(stage.starts.iter().all(|took| *took < limit), "{said}");
    Ok(said)
}

/// The backlog of a start leaves at a rate that grows.
pub(crate) fn ramp(_call: &Call) -> anyhow::Result<String> {
    const IN_FLIGHT: usize = 16;
    const SPAN: f64 = 6.0;
    let env = vec![
        ("SHEARWATER_DELIVERY__RAMP", format!("{SPAN}s")),
        ("SHEARWATER_DELIVERY__IN_FLIGHT", IN_FLIGHT.to_string()),
    ];
    let mut stage = Stage::set(Setting { env, ..Setting::of(4) })?;
    stage.stop()?;
    fill(&stage, 400)?;
    stage.start()?;
    let began = Instant::now();
    let (mut steps, mut before) = (Vec::new(), 0);
    loop {
        std::thread::sleep(Duration::from_millis(1500));
        let (at, received) = (began.elapsed().as_secs_f64(), stage.count()?.1);
        steps.push(format!("{received} after {at:.1} s"));
        if at < SPAN {
            // As `delivery::ramp` has it, and a little for the time that a start takes.
            let full = IN_FLIGHT as f64 * 10.0;
            let allowed = IN_FLIGHT as f64 + full * (at + 0.7).powi(2) / (2.0 * SPAN);
            ensure!(received as f64 <= allowed, "{} (at most {allowed:.0})", steps.join(", "));
            ensure!(received > before, "nothing moves: {}", steps.join(", "));
        }
        before = received;
        if received == 400 * 4 {
            break;
        }
        ensure!(at < 60.0, "it does not end: {}", steps.join(", "));
    }
    Ok(format!("  of a backlog of 400 entries for 4 subscribers had arrived: {}", steps.join(", ")))
}

/// Appends entries to the log of a relay that does not run.
fn fill(stage: &Stage, count: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let clock = Clock::system();
    let store = Store::open(&stage.data(), clock.clone())?;
    let log = Log::open(&store)?;
    runtime.block_on(async {
        for start in (0..count).step_by(BULK) {
            let drafts: Vec<Draft> =
                (start..count.min(start + BULK)).map(|number| draft(number, &clock)).collect::<Result<_, _>>()?;
            let log = log.clone();
            store.write(move |tx| drafts.into_iter().try_for_each(|draft| log.append(tx, draft).map(drop))).await?;
        }
        anyhow::Ok(())
    })
}

fn draft(number: usize, clock: &Clock) -> anyhow::Result<Draft> {
    let actor = "https://elsewhere.example/users/ada";
    let id = format!("{actor}/statuses/{}", FIRST + number);
    let body = format!(
        r#"{{"id":"{id}/activity","type":"Create","actor":"{actor}","object":{{"id":"{id}","type":"Note","content":"{}"}}}}"#,
        "x".repeat(BODY - 300)
    );
    Ok(Draft {
        at: clock.now(),
        kind: Kind::Create,
        object: Iri::parse(&id)?,
        actor: Iri::parse(actor)?,
        activity: format!("{id}/activity"),
        supplier: Iri::parse(actor)?.authority(),
        carried: true,
        published: None,
        relayed: true,
        body: Bytes::from(body),
    })
}
