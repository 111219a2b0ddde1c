//! reviews: v1 has no stars, v2 black ones, v3 red ones; v2 and v3 ask ratings, each with its own patience.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Way;
use crate::serve::{Answer, Asked, json};
use crate::{client, timing};

/// Which of the three it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// No stars.
    V1,
    /// Black stars.
    V2,
    /// Red stars.
    V3,
}

impl Version {
    /// Reads `v1`, `v2` or `v3`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "v1" => Self::V1,
            "v2" => Self::V2,
            "v3" => Self::V3,
            _ => return None,
        })
    }

    fn stars(self) -> Option<(&'static str, Duration)> {
        match self {
            Self::V1 => None,
            Self::V2 => Some(("black", timing::REVIEWS_V2_WAITS)),
            Self::V3 => Some(("red", timing::REVIEWS_V3_WAITS)),
        }
    }
}

const TEXTS: [(&str, &str); 2] = [
    ("Reviewer1", "An extremely entertaining play. The slapstick humour is refreshing!"),
    ("Reviewer2", "Absolutely fun and entertaining. The play lacks thematic depth when compared to others."),
];

/// Answers `/reviews/<id>` and `/health`.
pub async fn answer(version: Version, way: Way, asked: Asked) -> Answer {
    if asked.path == "/health" {
        return json(200, &json!({"status": "Reviews is healthy"}));
    }
    let Some(Ok(id)) = asked.path.strip_prefix("/reviews/").map(str::parse::<u64>) else {
        return json(404, &json!({"error": "not found"}));
    };
    let ratings = match version.stars() {
        None => None,
        Some((color, patience)) => Some((color, ask_ratings(way, id, &asked, patience).await)),
    };
    let reviews: Vec<Value> = TEXTS.iter().map(|(who, text)| review(who, text, ratings.as_ref())).collect();
    json(200, &json!({"id": id.to_string(), "podname": pod_name(version), "clustername": "null", "reviews": reviews}))
}

// In a cluster the host's name is the pod's; elsewhere it is any machine's.
fn pod_name(version: Version) -> String {
    let plain = format!("reviews-{version:?}").to_lowercase();
    std::env::var("HOSTNAME").ok().filter(|name| name.starts_with(&plain)).unwrap_or(plain)
}

fn review(who: &str, text: &str, ratings: Option<&(&str, Option<Value>)>) -> Value {
    let mut review = json!({"reviewer": who, "text": text});
    match ratings {
        None => {}
        Some((color, Some(stars))) => review["rating"] = json!({"stars": stars[who], "color": color}),
        Some((_, None)) => review["rating"] = json!({"error": "Ratings service is currently unavailable"}),
    }
    review
}

async fn ask_ratings(way: Way, id: u64, asked: &Asked, patience: Duration) -> Option<Value> {
    let headers = client::pass_on(&asked.headers);
    match client::get(way, "ratings:9080", &format!("/ratings/{id}"), &headers, patience).await {
        Ok((200, body)) => serde_json::from_slice::<Value>(&body).ok().map(|value| value["ratings"].clone()),
        Ok((status, _)) => {
            eprintln!("ratings answered {status}");
            None
        }
        Err(error) => {
            eprintln!("{error:#}");
            None
        }
    }
}
