//! Query fields: known by name, sent once, in bounds; otherwise a 400 that names the field.

use std::ops::RangeInclusive;

use crate::http::Request;
use crate::problem::Problem;

/// The fields of a query, each sent at most once.
#[derive(Clone, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The request's fields, all of which must be among `allowed`.
    pub fn of(request: &Request, allowed: &[&str]) -> Result<Self, Problem> {
        let fields = request.query_fields();
        for (index, (name, _)) in fields.iter().enumerate() {
            if !allowed.contains(&name.as_str()) {
                let shown: String = name.chars().take(64).collect();
                return Err(Problem::field(
                    format!("query:{shown}"),
                    "is not a field of this call",
                ));
            }
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::field(format!("query:{name}"), "must be sent once"));
            }
        }
        Ok(Self(fields))
    }

    /// The field's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The field as a whole number in `range`, or `default` where it is missing.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>, default: u64) -> Result<u64, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(number),
            _ => {
                let (low, high) = range.into_inner();
                Err(Problem::field(
                    format!("query:{name}"),
                    format!("must be a whole number from {low} to {high}"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Problem> {
        let request = Request {
            method: "GET".into(),
            path: "/".into(),
            query: Some(text.into()),
            headers: Vec::new(),
            body: Vec::new(),
            peer: String::new(),
        };
        Query::of(&request, &["limit", "cursor"])
    }

    #[test]
    fn numbers_are_bounded_and_fields_known() {
        assert_eq!(
            query("limit=7&cursor=a%2Fb")
                .unwrap()
                .number("limit", 1..=9, 5)
                .unwrap(),
            7
        );
        assert_eq!(query("cursor=a%2Fb").unwrap().text("cursor"), Some("a/b"));
        assert_eq!(query("").unwrap().number("limit", 1..=9, 5).unwrap(), 5);
        for bad in [
            "limit=",
            "limit=0",
            "limit=10",
            "limit=-1",
            "limit=%2B1",
            "limit=x",
            "limit=99999999999999999999",
        ] {
            let problem = query(bad).unwrap().number("limit", 1..=9, 5).unwrap_err();
            assert_eq!(problem.errors[0].pointer, "query:limit", "{bad}");
        }
        assert_eq!(query("page=1").unwrap_err().errors[0].pointer, "query:page");
        assert_eq!(
            query("limit=1&limit=1").unwrap_err().errors[0].pointer,
            "query:limit"
        );
    }
}
