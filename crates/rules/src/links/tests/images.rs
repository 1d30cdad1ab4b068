//! QR codes, as a reader of another project reads them.

use super::*;

const SIDE: usize = 1 << 9;

/// What a reader finds on a picture; `is_dark` by column and row.
fn read(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> Option<String> {
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| match is_dark(x, y) {
        true => 0,
        false => 255,
    });
    let grids = picture.detect_grids();
    Some(grids.first()?.decode().ok()?.1)
}

/// Side, palette and pixels of a PNG of one bit a pixel.
fn png(image: &[u8]) -> (usize, Vec<u8>, Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(image));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let info = reader.info();
    assert_eq!((info.width, info.bit_depth), (info.height, png::BitDepth::One));
    (
        info.width as usize,
        info.palette.clone().unwrap().into_owned(),
        pixels,
    )
}

fn read_png(image: &[u8]) -> Option<String> {
    let (side, _, pixels) = png(image);
    let row = side.div_ceil(8);
    read(side, |x, y| pixels[y * row + x / 8] & (0x80 >> (x % 8)) != 0)
}

/// The dark squares of an SVG, drawn `SIDE` pixels wide.
fn read_svg(image: &str) -> Option<String> {
    let between = |from: &str, to: &str| {
        let rest = image.split(from).nth(1).unwrap();
        rest.split(to).next().unwrap().to_owned()
    };
    let side: usize = between("viewBox=\"0 0 ", " ").parse().unwrap();
    let path = image.rsplit("d=\"").next().unwrap();
    let mut dark = vec![false; side * side];
    for run in path.split('M').skip(1) {
        let (at, length) = run.split_once('h').unwrap();
        let (x, y) = at.split_once(' ').unwrap();
        let length: usize = length.split('v').next().unwrap().parse().unwrap();
        let first = y.parse::<usize>().unwrap() * side + x.parse::<usize>().unwrap();
        dark[first..first + length].fill(true);
    }
    let scale = SIDE / side;
    read(scale * side, |x, y| dark[y / scale * side + x / scale])
}

fn image(gateway: &Gateway, query: &str) -> Response {
    let answer = gateway.admin("GET", &format!("/api/links/abc/qr{query}"), &Value::Null);
    assert_eq!(
        answer.status,
        200,
        "{query}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    answer
}

#[test]
fn an_image_leads_to_the_short_address() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({"validFrom": at(60 * SECOND)}));
    let address = gateway.read("abc")["shortUrl"].as_str().unwrap().to_owned();
    for query in [
        "?format=png",
        "?format=png&size=2048",
        "?format=png&size=100&margin=2&level=L",
        "?format=png&size=333&level=H&color=1A2b3c",
        "?format=png&margin=32",
    ] {
        let image = image(&gateway, query);
        assert_eq!(image.header("content-type"), Some("image/png"));
        assert_eq!(read_png(&image.body).as_deref(), Some(&*address), "{query}");
    }
    for query in [
        "",
        "?format=svg&level=Q",
        "?size=64&margin=1&color=ff0000",
        "?level=H",
    ] {
        let image = image(&gateway, query);
        assert_eq!(image.header("content-type"), Some("image/svg+xml"));
        assert_eq!(read_svg(&text(&image)).as_deref(), Some(&*address), "{query}");
    }
}

#[test]
fn an_image_is_as_it_was_asked_for() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let (side, palette, _) = png(&image(&gateway, "?format=png&size=300&color=0a141E").body);
    assert_eq!((side, palette), (300, vec![255, 255, 255, 10, 20, 30]));
    let svg = text(&image(&gateway, "?size=300&color=0a141E"));
    assert!(
        svg.contains("width=\"300\" height=\"300\"") && svg.contains("fill=\"#0a141e\""),
        "{svg}"
    );
    let widths = ["?margin=0", "?margin=4", "?margin=10"].map(|query| {
        let svg = text(&image(&gateway, query));
        svg.split("viewBox=\"0 0 ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    });
    assert_eq!((widths[1] - widths[0], widths[2] - widths[0]), (8, 20));
}

#[test]
fn an_image_may_be_kept_and_is_not_sent_again() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    let first = image(&gateway, "?format=png");
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.header("cache-control"), Some("private, max-age=3600"));
    let bearer = format!("Bearer {ADMIN}");
    let headers = [("authorization", &*bearer), ("if-none-match", &*tag)];
    let again = gateway.call("GET", "/api/links/abc/qr?format=png", &headers, &Value::Null);
    assert_eq!(
        (again.status, again.body.len(), again.header("etag")),
        (304, 0, Some(&*tag))
    );
    let other = gateway.call(
        "GET",
        "/api/links/abc/qr?format=png&size=40",
        &headers,
        &Value::Null,
    );
    assert_eq!(other.status, 200);
    assert_ne!(other.header("etag"), Some(&*tag));
    assert_eq!(
        gateway
            .admin("GET", "/api/links/nothing/qr", &Value::Null)
            .header("cache-control"),
        Some("private, no-store")
    );
}

#[test]
fn an_image_has_bounds() {
    let gateway = Gateway::new();
    gateway.link("abc", json!({}));
    for (query, at) in [
        ("format=gif", "query:format"),
        ("format=", "query:format"),
        ("size=31", "query:size"),
        ("size=2049", "query:size"),
        ("size=1e3", "query:size"),
        ("format=png&size=32&margin=32", "query:size"),
        ("margin=33", "query:margin"),
        ("margin=-1", "query:margin"),
        ("level=m", "query:level"),
        ("color=red", "query:color"),
        ("color=%23ff0000", "query:color"),
        ("color=+12345", "query:color"),
        ("color=fffffff", "query:color"),
        ("logo=x", "query:logo"),
        ("size=64&size=64", "query:size"),
    ] {
        let answer = gateway.admin("GET", &format!("/api/links/abc/qr?{query}"), &Value::Null);
        assert_eq!((answer.status, pointer(&answer).as_str()), (400, at), "{query}");
    }
}
