//! YOURLS's calls against the store in memory.

use serde_json::{Value, json};

use crate::testing::{ADMIN, Gateway, body, text};
use tollgate_api::http::Response;

impl Gateway {
    fn yourls(&self, query: &str) -> Response {
        let path = format!("/yourls-api.php?signature={ADMIN}&{query}");
        self.call("GET", &path, &[], &Value::Null)
    }

    fn yourls_json(&self, query: &str) -> (u16, Value) {
        let answer = self.yourls(&format!("format=json&{query}"));
        (answer.status, body(&answer))
    }
}

const URL: &str = "https%3A%2F%2Fexample.com%2Fa%3Fb%26c";

#[test]
fn a_url_is_shortened_once() {
    let gateway = Gateway::new();
    let (status, made) =
        gateway.yourls_json(&format!("action=shorturl&url={URL}&keyword=spring&title=Spring"));
    assert_eq!(status, 200, "{made}");
    let date = made["url"]["date"].clone();
    let expected = json!({
        "url": { "keyword": "spring", "url": "https://example.com/a?b&c", "title": "Spring", "date": date, "ip": "" },
        "status": "success", "code": "", "message": "https://example.com/a?b&c added to database", "title": "Spring",
        "shorturl": "http://localhost:3000/spring", "simple": "http://localhost:3000/spring", "statusCode": "200",
    });
    assert_eq!(made, expected);
    let (status, again) = gateway.yourls_json(&format!("action=shorturl&url={URL}"));
    assert_eq!(
        (status, &again["code"], &again["shorturl"]),
        (400, &json!("error:url"), &expected["shorturl"])
    );
    let (status, taken) = gateway.yourls_json("action=shorturl&url=https%3A%2F%2Fexample.org&keyword=spring");
    assert_eq!((status, &taken["code"]), (400, &json!("error:keyword")));
    let (status, bare) = gateway.yourls_json("action=shorturl&url=example.net/x");
    assert_eq!(
        (status, &bare["url"]["url"]),
        (200, &json!("http://example.net/x"))
    );
    for (query, code) in [
        ("action=shorturl", "error:nourl"),
        ("action=shorturl&url=ftp%3A%2F%2Fx", "error:nourl"),
        (
            "action=shorturl&url=https%3A%2F%2Fexample.org&keyword=a%20b",
            "error:keyword",
        ),
        ("action=unheard", "error"),
        ("", "error"),
    ] {
        let (status, answer) = gateway.yourls_json(query);
        assert_eq!(
            (status, &answer["code"], &answer["status"]),
            (400, &json!(code), &json!("fail")),
            "{query}"
        );
    }
}

#[test]
fn links_are_told_with_their_numbers() {
    let gateway = Gateway::new();
    for code in ["one", "two"] {
        gateway.yourls(&format!(
            "action=shorturl&url=https%3A%2F%2Fexample.com%2F{code}&keyword={code}"
        ));
    }
    for _ in 0..3 {
        gateway.call("GET", "/two", &[("user-agent", "Firefox")], &Value::Null);
    }
    let (_, expanded) = gateway.yourls_json("action=expand&shorturl=http%3A%2F%2Flocalhost%3A3000%2Fone");
    assert_eq!(
        (&expanded["keyword"], &expanded["longurl"]),
        (&json!("one"), &json!("https://example.com/one"))
    );
    let (_, stats) = gateway.yourls_json("action=url-stats&shorturl=two");
    assert_eq!(stats["link"]["clicks"], "3");
    let (_, stats) = gateway.yourls_json("action=stats&filter=top&limit=1");
    assert_eq!(stats["links"]["link_1"]["shorturl"], "http://localhost:3000/two");
    assert_eq!(stats["links"]["link_2"], Value::Null);
    assert_eq!(stats["stats"], json!({ "total_links": "2", "total_clicks": "3" }));
    let (_, stats) = gateway.yourls_json("action=db-stats");
    assert_eq!(stats["db-stats"]["total_clicks"], "3");
    let (status, none) = gateway.yourls_json("action=expand&shorturl=none");
    assert_eq!((status, &none["errorCode"]), (404, &json!(404)));
    assert!(gateway.yourls_json("action=version").1["version"].is_string());
}

#[test]
fn answers_are_in_the_format_that_is_asked_for() {
    let gateway = Gateway::new();
    let shorten = format!("action=shorturl&url={URL}&keyword=spring&title=%3Cb%3E%26");
    let xml = gateway.yourls(&shorten);
    assert_eq!(xml.header("content-type"), Some("application/xml; charset=utf-8"));
    let xml = text(&xml);
    assert!(
        xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<result>"),
        "{xml}"
    );
    assert!(
        xml.contains("<title>&lt;b&gt;&amp;</title>")
            && xml.contains("<shorturl>http://localhost:3000/spring</shorturl>"),
        "{xml}"
    );
    let simple = gateway.yourls("action=expand&shorturl=spring&format=simple");
    assert_eq!(text(&simple), "https://example.com/a?b&c");
    let jsonp = text(&gateway.yourls("action=expand&shorturl=spring&format=jsonp&callback=got.it"));
    assert!(
        jsonp.starts_with("/**/got.it({") && jsonp.ends_with("});"),
        "{jsonp}"
    );
    let forged = text(&gateway.yourls("action=version&format=jsonp&callback=alert(1)//"));
    assert!(forged.starts_with("/**/yourls_callback("), "{forged}");
}

#[test]
fn a_form_is_read_too_and_without_a_key_nothing_is_made() {
    let gateway = Gateway::new();
    let form = format!("signature={ADMIN}&action=shorturl&format=simple&keyword=spring&url={URL}");
    let made = gateway.call("POST", "/yourls-api.php", &[], &*form);
    assert_eq!(text(&made), "http://localhost:3000/spring");
    for credential in ["", "signature=nobody&"] {
        let path = format!("/yourls-api.php?{credential}action=shorturl&format=json&keyword=more&url={URL}");
        let refused = gateway.call("GET", &path, &[], &Value::Null);
        assert_eq!(refused.status, 401);
        assert!(body(&refused)["message"].is_string());
    }
    assert_eq!(gateway.call("GET", "/more", &[], &Value::Null).status, 404);
    let path = format!("/yourls-api.php?signature={ADMIN}&action=shorturl&keyword=more&url={URL}2");
    assert_eq!(gateway.call("HEAD", &path, &[], &Value::Null).status, 400);
    assert_eq!(gateway.call("GET", "/more", &[], &Value::Null).status, 404);
}
