//! ratings: stars by reviewer.

use serde_json::json;

use crate::serve::{Answer, Asked, json};

/// Answers `/ratings/<id>` and `/health`.
pub async fn answer(asked: Asked) -> Answer {
    match asked.path.strip_prefix("/ratings/").map(str::parse::<u64>) {
        Some(Ok(id)) => json(200, &json!({"id": id, "ratings": {"Reviewer1": 5, "Reviewer2": 4}})),
        Some(Err(_)) => json(400, &json!({"error": "please provide numeric product ID"})),
        None if asked.path == "/health" => json(200, &json!({"status": "Ratings is healthy"})),
        None => json(404, &json!({"error": "not found"})),
    }
}
