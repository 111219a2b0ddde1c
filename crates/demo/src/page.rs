//! The page as HTML: plain, readable without scripts.

use serde_json::Value;

use crate::productpage::Part;

/// The book.
pub const TITLE: &str = "The Comedy of Errors";

const STYLE: &str = "body{font-family:system-ui,sans-serif;margin:0;color:#222}header{background:#14532d;color:#fff;\
padding:.8rem 1.5rem;display:flex;justify-content:space-between;align-items:center}main{max-width:60rem;margin:1.5rem auto;\
padding:0 1rem}.cols{display:grid;grid-template-columns:1fr 1fr;gap:2rem}dt{font-weight:600}dd{margin:0 0 .5rem}\
blockquote{margin:0 0 1rem;padding:.5rem 1rem;border-left:4px solid #14532d}.error{color:#b91c1c}small{color:#555}\
form{display:inline}input,button{font:inherit;padding:.2rem .5rem}";

fn shell(title: &str, header: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><header>{header}</header>\
         <main>{body}</main></body></html>"
    )
}

/// The front door.
pub fn index() -> String {
    shell("Bookinfo", "<strong>Bookinfo</strong>", "<p><a href=\"/productpage\">Product page</a></p>")
}

/// The product page for a user, or for nobody.
pub fn product(user: Option<&str>, details: &Part, reviews: &Part) -> String {
    let login = match user {
        Some(user) => format!("<span>{} <a href=\"/logout\" style=\"color:#fff\">sign out</a></span>", escape(user)),
        None => "<form method=\"post\" action=\"/login\"><input name=\"username\" placeholder=\"user name\" \
                 aria-label=\"user name\"> <button>Sign in</button></form>"
            .to_owned(),
    };
    let header = format!("<strong>BookInfo Sample</strong>{login}");
    let body = format!(
        "<h1>{TITLE}</h1><div class=\"cols\"><section><h2>Book Details</h2>{}</section>\
         <section><h2>Book Reviews</h2>{}</section></div>",
        details_html(details),
        reviews_html(reviews)
    );
    shell(TITLE, &header, &body)
}

fn details_html(details: &Part) -> String {
    let facts = match details {
        Ok(Value::Object(facts)) => facts,
        Ok(_) => return sorry("Error fetching product details!"),
        Err((_, text)) => return sorry(text),
    };
    let row = |(key, value): (&String, &Value)| format!("<dt>{}</dt><dd>{}</dd>", escape(key), escape(&plain(value)));
    format!("<dl>{}</dl>", facts.iter().filter(|(key, _)| *key != "id").map(row).collect::<String>())
}

fn reviews_html(reviews: &Part) -> String {
    let found = match reviews {
        Ok(found) => found,
        Err((_, text)) => return format!("<h3 class=\"error\">Error fetching product reviews!</h3>{}", sorry(text)),
    };
    let quotes: String = found["reviews"].as_array().into_iter().flatten().map(review_html).collect();
    format!("{quotes}<small>Reviews served by: <code>{}</code></small>", escape(&plain(&found["podname"])))
}

fn review_html(review: &Value) -> String {
    let rating = &review["rating"];
    let stars = match (rating["stars"].as_u64(), rating["color"].as_str(), rating["error"].as_str()) {
        (Some(stars), Some(color), _) => {
            let stars = stars.min(5) as usize;
            let text = format!("{}{}", "★".repeat(stars), "☆".repeat(5 - stars));
            format!("<span style=\"color:{}\" aria-label=\"{stars} {0} stars\">{text}</span>", escape(color))
        }
        (_, _, Some(error)) => format!("<em class=\"error\">{}</em>", escape(error)),
        _ => String::new(),
    };
    let (text, who) = (escape(&plain(&review["text"])), escape(&plain(&review["reviewer"])));
    format!("<blockquote><p>{text}</p><small>{who}</small> {stars}</blockquote>")
}

fn sorry(text: &str) -> String {
    format!("<p class=\"error\">{}</p>", escape(text))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_service_says_is_escaped() {
        let reviews = Ok(json!({"podname": "<b>", "reviews": [{"reviewer": "x", "text": "<script>"}]}));
        let html = product(Some("\"><i>"), &Ok(json!({})), &reviews);
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("<i>"));
    }

    #[test]
    fn errors_read_as_in_the_tutorial() {
        let html = product(
            None,
            &Ok(json!({})),
            &Err((500, "Sorry, product reviews are currently unavailable for this book.")),
        );
        assert!(html.contains("Sorry, product reviews are currently unavailable"));
    }
}
