//! `GET /api/links/{code}/qr`: a link's short address as a QR code.
//!
//! The work is bounded by [`MAX_PIXELS`]. A code depends on the address and the query alone, so it may be kept.

use std::fmt::Write as _;

use fast_qr::qr::QRBuilder;
use fast_qr::{ECL, QRCode};
use png::{BitDepth, ColorType, Compression, Encoder};

use super::access::Credential;
use super::record::short_url;
use crate::etag;
use crate::world::World;
use tollgate_api::http::{Request, Response};
use tollgate_api::problem::{Kind, Problem};
use tollgate_api::query::Query;
use tollgate_store::ports::Store;

/// The least pixels of a side.
pub(super) const MIN_PIXELS: u64 = 32;
/// The most pixels of a side.
pub(super) const MAX_PIXELS: u64 = 2_048;
/// Pixels of a side where the caller does not say.
pub(super) const PIXELS: u64 = 512;
/// The quiet zone where the caller does not say, in modules: what ISO/IEC 18004 asks for.
pub(super) const MARGIN: u64 = 4;
/// The widest quiet zone, in modules.
pub(super) const MAX_MARGIN: u64 = 32;
/// How long a caller may keep one, in seconds. It is the caller's: a link is.
const KEPT: &str = "private, max-age=3600";

/// The format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

/// What an image is to look like.
#[derive(Clone, Copy, Debug)]
struct Look {
    format: Format,
    /// Pixels of a side.
    size: u64,
    /// The quiet zone, in modules.
    margin: u64,
    level: ECL,
    /// Red, green and blue of the dark modules.
    color: [u8; 3],
}

impl Look {
    fn of(request: &Request) -> Result<Self, Problem> {
        let query = Query::of(request, &["format", "size", "margin", "level", "color"])?;
        let format = match query.text("format") {
            None | Some("svg") => Format::Svg,
            Some("png") => Format::Png,
            Some(_) => return Err(Problem::field("query:format", "must be svg or png")),
        };
        let level = match query.text("level") {
            Some("L") => ECL::L,
            None | Some("M") => ECL::M,
            Some("Q") => ECL::Q,
            Some("H") => ECL::H,
            Some(_) => return Err(Problem::field("query:level", "must be L, M, Q or H")),
        };
        Ok(Self {
            format,
            size: query.number("size", MIN_PIXELS..=MAX_PIXELS, PIXELS)?,
            margin: query.number("margin", 0..=MAX_MARGIN, MARGIN)?,
            level,
            color: color(query.text("color").unwrap_or("000000"))?,
        })
    }
}

/// Six hexadecimal digits.
fn color(text: &str) -> Result<[u8; 3], Problem> {
    let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u32::from_str_radix(text, 16) {
        Ok(number) if digits => {
            let [_, red, green, blue] = number.to_be_bytes();
            Ok([red, green, blue])
        }
        _ => Err(Problem::field(
            "query:color",
            "must be six hexadecimal digits, e.g. 1a2b3c",
        )),
    }
}

pub(super) async fn get<S: Store>(
    world: &World<'_, S>,
    request: &Request,
    code: &str,
) -> Result<Response, Problem> {
    let credential = Credential::of(world, request).await?;
    let look = Look::of(request)?;
    let link = credential.open(world, code).await?;
    let image = draw(&short_url(world.settings, &link.code), &look)?;
    let tag = etag::of(&image);
    let response = match etag::is_known(request, &tag) {
        true => Response::empty(304),
        false => Response {
            body: image,
            ..Response::empty(200)
        }
        .with(
            "content-type",
            match look.format {
                Format::Svg => "image/svg+xml",
                Format::Png => "image/png",
            },
        )
        // An image that is opened by itself runs nothing and loads nothing.
        .with("content-security-policy", "default-src 'none'; sandbox")
        .with("x-content-type-options", "nosniff"),
    };
    Ok(response.with("etag", tag).with("cache-control", KEPT))
}

fn draw(text: &str, look: &Look) -> Result<Vec<u8>, Problem> {
    let code = QRBuilder::new(text).ecl(look.level).build();
    let code =
        code.map_err(|_| Problem::new(Kind::Internal, "The short address does not fit into a QR code."))?;
    match look.format {
        Format::Svg => Ok(svg(&code, look).into_bytes()),
        Format::Png => png(&code, look),
    }
}

/// The runs of dark modules of each row: row, column of the first, length.
fn runs(code: &QRCode) -> Vec<(usize, usize, usize)> {
    let mut runs = Vec::new();
    for y in 0..code.size {
        let row = &code[y];
        let mut begun = None;
        for x in 0..=code.size {
            let dark = x < code.size && row.get(x).is_some_and(|module| module.value());
            match (begun, dark) {
                (None, true) => begun = Some(x),
                (Some(first), false) => {
                    runs.push((y, first, x - first));
                    begun = None;
                }
                _ => {}
            }
        }
    }
    runs
}

fn svg(code: &QRCode, look: &Look) -> String {
    let margin = usize::try_from(look.margin).unwrap_or(0);
    let (size, side) = (look.size, code.size + 2 * margin);
    let [red, green, blue] = look.color;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{size}\" height=\"{size}\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/>\
         <path fill=\"#{red:02x}{green:02x}{blue:02x}\" d=\""
    );
    for (y, x, length) in runs(code) {
        // Writing to a string does not fail.
        let _ = write!(svg, "M{} {}h{length}v1h-{length}z", x + margin, y + margin);
    }
    svg + "\"/></svg>"
}

/// One bit a pixel. Modules have whole pixels, as scanners like them; what is left over is quiet zone.
fn png(code: &QRCode, look: &Look) -> Result<Vec<u8>, Problem> {
    let (size, margin) = (
        usize::try_from(look.size).unwrap_or(0),
        usize::try_from(look.margin).unwrap_or(0),
    );
    let side = code.size + 2 * margin;
    let scale = size / side;
    if scale == 0 {
        return Err(Problem::field(
            "query:size",
            format!("must be at least {side} for this code and margin"),
        ));
    }
    let first = (size - scale * code.size) / 2;
    let bytes_per_row = size.div_ceil(8);
    let mut pixels = vec![0_u8; bytes_per_row * size];
    for (y, x, length) in runs(code) {
        let (top, left) = (first + y * scale, first + x * scale);
        for row in pixels.chunks_exact_mut(bytes_per_row).skip(top).take(scale) {
            for pixel in left..left + length * scale {
                if let Some(byte) = row.get_mut(pixel / 8) {
                    *byte |= 0x80 >> (pixel % 8);
                }
            }
        }
    }
    let [red, green, blue] = look.color;
    let encode = || {
        let (mut image, side) = (Vec::new(), u32::try_from(size).unwrap_or(0));
        let mut encoder = Encoder::new(&mut image, side, side);
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::One);
        encoder.set_palette(vec![0xff, 0xff, 0xff, red, green, blue]);
        encoder.set_compression(Compression::Fast);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(image)
    };
    encode().map_err(|_: png::EncodingError| Problem::new(Kind::Internal, "The image could not be written."))
}
