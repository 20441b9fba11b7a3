//! What the command line asks about trends: what trends, what is kept back and why, what the operator ruled; to rule; to have
//! the served lists made from the journal once more.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer;
use crate::store::{Subject, TrendRuling};
use crate::trends::Trends;
use crate::trends::assess::Window;
use crate::trends::lists::{Asked, Entry};
use crate::trends::rulings::Ruled;

/// Which list.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct Which {
    within: Option<u32>,
    language: Option<String>,
    subject: Option<String>,
}

impl Which {
    fn list(self) -> anyhow::Result<Asked> {
        let window = match self.within {
            None => Window::default(),
            Some(hours) => {
                Window::of_hours(hours).ok_or_else(|| anyhow::anyhow!("the window is 1, 6, 24 or 168 hours"))?
            }
        };
        let subject = match self.subject.as_deref() {
            None => Subject::Tag,
            Some(name) => Subject::named(name).ok_or_else(|| anyhow::anyhow!("there are tag, link and post"))?,
        };
        Ok(Asked { subject, window, language: self.language })
    }
}

/// A ruling that is to be.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct Said {
    target: String,
    hidden: bool,
    reason: String,
    /// For so many seconds; without it, until it is taken back.
    seconds: Option<u64>,
}

/// What a ruling is about.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct About {
    target: String,
}

/// What trends.
pub(in crate::http) async fn list(State(trends): State<Trends>, Query(which): Query<Which>) -> Response {
    let made = counted(trends, which, |trends, asked| {
        let list = trends.list(asked)?;
        Ok(list.entries.iter().map(|entry| row(entry, None)).collect())
    });
    answer(made.await)
}

/// What trends and is not shown.
pub(in crate::http) async fn withheld(State(trends): State<Trends>, Query(which): Query<Which>) -> Response {
    let made = counted(trends, which, |trends, asked| {
        let rows = trends.held_back(asked)?;
        Ok(rows.iter().map(|(entry, why)| row(entry, Some(why.as_str()))).collect())
    });
    answer(made.await)
}

async fn counted(
    trends: Trends,
    which: Which,
    make: impl FnOnce(&Trends, &Asked) -> anyhow::Result<Vec<Value>> + Send + 'static,
) -> anyhow::Result<Value> {
    let asked = which.list()?;
    Ok(json!(tokio::task::spawn_blocking(move || make(&trends, &asked)).await??))
}

fn row(entry: &Entry, why: Option<&str>) -> Value {
    let mut row = json!({
        "name": entry.name,
        "key": entry.key,
        "rank": entry.rank,
        "score": (entry.z * 1000.0).round() / 1000.0,
        "people": entry.people,
        "servers": entry.servers,
        "usual_people": entry.usual.people,
        "usual_servers": entry.usual.servers,
    });
    if let Some(why) = why {
        row["why"] = why.into();
    }
    row
}

/// What the operator said that holds.
pub(in crate::http) async fn rulings(State(trends): State<Trends>) -> Response {
    let rulings = trends.rulings();
    let rows = rulings.all(trends.now()).into_iter().map(|(target, ruling)| {
        json!({
            "target": target,
            "ruling": if ruling.hidden { "hidden" } else { "shown" },
            "reason": ruling.reason,
            "at": ruling.at.rfc3339(),
            "until": ruling.until.map(|until| until.rfc3339()),
        })
    });
    answer(Ok(rows.collect()))
}

/// Hides something, or lets it through.
pub(in crate::http) async fn rule(State(trends): State<Trends>, Json(said): Json<Said>) -> Response {
    let done = async {
        let target = Ruled::parse(&said.target)?;
        let at = trends.now();
        let until = said.seconds.map(|seconds| at.plus(std::time::Duration::from_secs(seconds)));
        let reason = said.reason.trim().to_owned();
        trends.rule(&target, Some(TrendRuling { hidden: said.hidden, reason, at, until })).await?;
        Ok(json!({ "target": target.row(), "ruling": if said.hidden { "hidden" } else { "shown" } }))
    };
    answer(done.await)
}

/// Takes back what was said.
pub(in crate::http) async fn unrule(State(trends): State<Trends>, Query(about): Query<About>) -> Response {
    let done = async {
        let target = Ruled::parse(&about.target)?;
        let row = target.row();
        anyhow::ensure!(trends.rule(&target, None).await?, "nothing was said about {row}");
        Ok(json!({ "target": row, "ruling": "none" }))
    };
    answer(done.await)
}

/// Makes the lists again that were served last.
pub(in crate::http) async fn replay(State(trends): State<Trends>) -> Response {
    let done = tokio::task::spawn_blocking(move || trends.replay()).await;
    answer(done.map_err(Into::into).and_then(|replayed| Ok(json!(replayed?))))
}
