//! details: facts about the book.

use serde_json::json;

use crate::serve::{Answer, Asked, json};

/// Answers `/details/<id>` and `/health`.
pub async fn answer(asked: Asked) -> Answer {
    match asked.path.strip_prefix("/details/").map(str::parse::<u64>) {
        Some(Ok(id)) => json(
            200,
            &json!({
                "id": id, "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
                "publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890"
            }),
        ),
        Some(Err(_)) => json(400, &json!({"error": "please provide numeric product id"})),
        None if asked.path == "/health" => json(200, &json!({"status": "Details is healthy"})),
        None => json(404, &json!({"error": "not found"})),
    }
}
