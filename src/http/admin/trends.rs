//! Trends: what trends, what is kept back and why, what the operator ruled; to rule; to have the served lists made from the
//! journal once more.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Rows, Told};
use super::costly::Costly;
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::store::{Subject, TrendRuling};
use crate::trends::Trends;
use crate::trends::assess::Window;
use crate::trends::lists::{Asked as AskedFor, Entry};
use crate::trends::replay::Replayed;
use crate::trends::rulings::Ruled;

/// Which list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// The window in hours: 1, 6, 24 or 168.
    #[param(example = 6)]
    within: Option<u32>,
    /// Only what is said in this language.
    language: Option<String>,
    /// `tag`, `link` or `post`.
    #[param(example = "tag")]
    subject: Option<String>,
}

impl Which {
    fn list(self) -> Result<AskedFor, Problem> {
        let window = match self.within {
            None => Window::default(),
            Some(hours) => {
                Window::of_hours(hours).ok_or_else(|| Problem::unread("the window is 1, 6, 24 or 168 hours"))?
            }
        };
        let subject = match self.subject.as_deref() {
            None => Subject::Tag,
            Some(name) => Subject::named(name).ok_or_else(|| Problem::unread("there are tag, link and post"))?,
        };
        Ok(AskedFor { subject, window, language: self.language })
    }
}

/// Something that trends.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Trend {
    /// Its commonest spelling.
    name: String,
    /// What all its spellings have in common.
    key: String,
    /// From 1 to 100.
    rank: u32,
    /// The score.
    score: f64,
    /// People who speak of it.
    people: u32,
    /// Servers that they are on.
    servers: u32,
    /// What is usual.
    usual_people: u32,
    /// What is usual.
    usual_servers: u32,
    /// Why it is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

impl Trend {
    fn of(entry: &Entry, why: Option<&'static str>) -> Self {
        Self {
            name: entry.name.clone(),
            key: entry.key.clone(),
            rank: entry.rank,
            score: (entry.z * 1000.0).round() / 1000.0,
            people: entry.people,
            servers: entry.servers,
            usual_people: entry.usual.people,
            usual_servers: entry.usual.servers,
            why,
        }
    }
}

fn there_are(trends: &Trends) -> Result<(), Problem> {
    if trends.is_on() { Ok(()) } else { Err(Problem::unfit("there are no trends here: `trends.api` is \"off\"")) }
}

/// List what trends.
#[utoipa::path(
    get,
    path = "/api/admin/v1/trends",
    tag = "trends",
    operation_id = "list_trends",
    params(Which),
    responses((status = 200, description = "The first one first.", body = Vec<Trend>), Changing, Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(trends): State<Trends>,
    Asked(which): Asked<Which>,
) -> Result<Rows<Trend>, Problem> {
    let asked = which.list()?;
    there_are(&trends)?;
    let list = tokio::task::spawn_blocking(move || trends.list(&asked)).await??;
    Ok(Rows::all(list.entries.iter().map(|entry| Trend::of(entry, None)).collect()))
}

/// List what trends and is not shown.
#[utoipa::path(
    get,
    path = "/api/admin/v1/trends/withheld",
    tag = "trends",
    operation_id = "list_withheld",
    params(Which),
    responses((status = 200, description = "Each with the reason.", body = Vec<Trend>), Changing, Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn withheld(
    State(trends): State<Trends>,
    Asked(which): Asked<Which>,
) -> Result<Rows<Trend>, Problem> {
    let asked = which.list()?;
    there_are(&trends)?;
    let rows = tokio::task::spawn_blocking(move || trends.held_back(&asked)).await??;
    Ok(Rows::all(rows.iter().map(|(entry, why)| Trend::of(entry, Some(why.as_str()))).collect()))
}

/// What the operator said of something.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ruling)]
pub(in crate::http) struct Said {
    /// What it is about: `tag:cats`.
    target: String,
    /// `hidden` or `shown`.
    ruling: &'static str,
    /// Why, for whoever asks.
    reason: String,
    /// When it was said.
    #[schema(format = DateTime)]
    at: String,
    /// Until when it holds.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// List what the operator said that holds.
#[utoipa::path(
    get,
    path = "/api/admin/v1/trends/rulings",
    tag = "trends",
    operation_id = "list_rulings",
    responses((status = 200, description = "All of it.", body = Vec<Said>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn rulings(State(trends): State<Trends>) -> Rows<Said> {
    let rulings = trends.rulings();
    let rows = rulings.all(trends.now()).into_iter().map(|(target, ruling)| Said {
        target: target.to_string(),
        ruling: if ruling.hidden { "hidden" } else { "shown" },
        reason: ruling.reason.clone(),
        at: ruling.at.rfc3339(),
        until: ruling.until.map(|until| until.rfc3339()),
    });
    Rows::all(rows.collect())
}

/// A ruling that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RulingWish)]
pub(in crate::http) struct Wish {
    /// A hashtag (`cats`), a link (`https://…`), a post by its id or the address of its page (`post:https://…`), or a site
    /// with those below it (`site:news.example`).
    target: String,
    /// Hide it; else let it through, although a rule or a review would keep it back.
    hidden: bool,
    /// Why, for whoever asks.
    reason: String,
    /// For so many seconds; without it, until it is taken back.
    seconds: Option<u64>,
    /// The same as a span: "30d".
    #[serde(default, with = "humantime_serde")]
    #[schema(value_type = Option<String>)]
    expires_in: Option<Duration>,
}

/// How it stands with something.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RulingStands)]
pub(in crate::http) struct Stands {
    /// What it is about.
    target: String,
    /// `hidden`, `shown` or `none`.
    ruling: &'static str,
}

/// Hide something, or let it through.
#[utoipa::path(
    post,
    path = "/api/admin/v1/trends/rulings",
    tag = "trends",
    operation_id = "rule_on_trend",
    request_body = Wish,
    responses((status = 200, description = "It is said.", body = Stands), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn rule(
    State(trends): State<Trends>,
    operator: Operator,
    Told(wish): Told<Wish>,
) -> Result<Json<Stands>, Problem> {
    let target = Ruled::parse(&wish.target)?;
    let at = trends.now();
    let span = wish.expires_in.or(wish.seconds.map(Duration::from_secs));
    if span.is_some_and(|span| span.is_zero()) {
        return Err(Problem::unread("it would be over at once: give it a span, or none"));
    }
    let until = span.map(|span| at.plus(span));
    let reason = wish.reason.trim().to_owned();
    let act = operator.act(&reason)?;
    trends.rule(&target, Some(TrendRuling { hidden: wish.hidden, reason, at, until }), &act).await?;
    Ok(Json(Stands { target: target.row(), ruling: if wish.hidden { "hidden" } else { "shown" } }))
}

/// What a ruling is about.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct About {
    /// As it was given to rule.
    target: String,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Take back what was said.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/trends/rulings",
    tag = "trends",
    operation_id = "unrule_trend",
    params(About),
    responses((status = 200, description = "It is taken back.", body = Stands), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn unrule(
    State(trends): State<Trends>,
    operator: Operator,
    Asked(about): Asked<About>,
) -> Result<Json<Stands>, Problem> {
    let target = Ruled::parse(&about.target)?;
    if trends.rule(&target, None, &operator.act(&about.reason)?).await? {
        return Ok(Json(Stands { target: target.row(), ruling: "none" }));
    }
    Err(Problem::absent(format!("nothing was said about {}", target.row())))
}

/// A list that was served, made again.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Remade {
    /// Which one: its subject, window and language.
    list: String,
    /// The same bytes came out.
    equal: bool,
    /// Changes of the journal since it was made. With none, and conditions as they were, it must be equal.
    changes_since: u64,
    /// What else is not as it was: `rulings`, `rules`, `config`, `evictions`, `hours`.
    conditions_changed: Vec<String>,
    /// As it was served.
    #[schema(value_type = Object)]
    served: crate::trends::lists::List,
    /// As it is now.
    #[schema(value_type = Object)]
    again: crate::trends::lists::List,
}

/// Make the lists again that were served last.
#[utoipa::path(
    get,
    path = "/api/admin/v1/trends/replay",
    tag = "trends",
    operation_id = "replay_trends",
    responses((status = 200, description = "Each as it was and as it is.", body = Vec<Remade>), Changing, Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn replay(
    State(trends): State<Trends>,
    State(costly): State<Costly>,
    operator: Operator,
) -> Result<Rows<Remade>, Problem> {
    let replayed = costly.read(&operator, move || trends.replay()).await?;
    let rows = replayed.into_iter().map(|one| {
        let Replayed { list, equal, changes_since, conditions_changed, served, again } = one;
        Remade { list, equal, changes_since, conditions_changed, served, again }
    });
    Ok(Rows::all(rows.collect()))
}
