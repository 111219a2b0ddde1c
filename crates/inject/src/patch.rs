//! The difference of two JSON values as a JSON Patch (RFC 6902).
//!
//! Lists are compared from both ends: what stands at the beginning or the end of both is left alone, so that a container
//! put before or behind the others is one `add`.

use serde_json::{Value, json};

/// Operations that make `to` of `from`.
pub fn diff(from: &Value, to: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare(from, to, "", &mut operations);
    operations
}

fn compare(from: &Value, to: &Value, path: &str, out: &mut Vec<Value>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            for name in from.keys().filter(|name| !to.contains_key(*name)) {
                out.push(json!({"op": "remove", "path": below(path, name)}));
            }
            for (name, value) in to {
                match from.get(name) {
                    Some(old) => compare(old, value, &below(path, name), out),
                    None => out.push(json!({"op": "add", "path": below(path, name), "value": value})),
                }
            }
        }
        (Value::Array(from), Value::Array(to)) => lists(from, to, path, out),
        _ if from == to => {}
        _ => out.push(json!({"op": "replace", "path": path, "value": to})),
    }
}

fn lists(from: &[Value], to: &[Value], path: &str, out: &mut Vec<Value>) {
    let before = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let rest = from.len().min(to.len()) - before;
    let after = from.iter().rev().zip(to.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (old, new) = (&from[before..from.len() - after], &to[before..to.len() - after]);
    let both = old.len().min(new.len());
    for index in 0..both {
        compare(&old[index], &new[index], &below(path, &(before + index).to_string()), out);
    }
    // The last first, so that the places of the others stay.
    for index in (both..old.len()).rev() {
        out.push(json!({"op": "remove", "path": below(path, &(before + index).to_string())}));
    }
    for (index, value) in new.iter().enumerate().skip(both) {
        out.push(json!({"op": "add", "path": below(path, &(before + index).to_string()), "value": value}));
    }
}

// RFC 6901: `~` and `/` are escaped.
fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}
