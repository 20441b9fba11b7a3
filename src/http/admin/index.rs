//! What the command line asks about the search's index: how it stands, whether it is right, to make it anew, to have words
//! gone from its files, to take something out.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::answer;
use crate::search::Search;

/// Ledger and index in numbers, and how a rebuild stands.
pub(in crate::http) async fn stats(State(search): State<Search>) -> Response {
    let asked = tokio::task::spawn_blocking(move || search.report());
    let done = asked.await.unwrap_or_else(|fault| Err(fault.into()));
    answer(done.map(|(report, rebuild)| {
        let mut all = json!(report);
        all["rebuild"] = json!(rebuild);
        all
    }))
}

/// What differs between index and ledger.
pub(in crate::http) async fn check(State(search): State<Search>) -> Response {
    answer(search.check_index().await.map(|found| json!(found)))
}

/// Begins to make a new index; how that goes on, [`stats`] says.
pub(in crate::http) async fn rebuild(State(search): State<Search>) -> Response {
    answer(search.rebuild_index().map(|()| json!({ "rebuild": "begun" })))
}

/// Has what was removed gone from the files.
pub(in crate::http) async fn expunge(State(search): State<Search>) -> Response {
    answer(search.expunge_index().await.map(|done| json!({ "segments": done.segments, "left": done.left })))
}

#[derive(Deserialize)]
pub(in crate::http) struct Purge {
    target: String,
    #[serde(default)]
    for_good: bool,
    dry_run: bool,
}

/// Takes out what is named, or says what that would be.
pub(in crate::http) async fn purge(State(search): State<Search>, Json(asked): Json<Purge>) -> Response {
    answer(search.purge(&asked.target, asked.for_good, asked.dry_run).await.map(|done| json!(done)))
}
