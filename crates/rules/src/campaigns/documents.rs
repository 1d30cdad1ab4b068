//! The documents of a claim as forms: the answer, the record, and the data of its message. They differ from claim to claim in a few
//! texts, and in numbers that only the commit knows.

use std::sync::LazyLock;

use super::holds::Hold;
use super::record::{Campaign, Claim, Status};
use crate::world::World;
use tollgate_api::ids;
use tollgate_store::commit::Template;
use tollgate_store::template::{Blank, Form, JsonBlank, Number};

/// Characters of a generated code: 62^10, about 2^59.
const CODE_LENGTH: usize = 10;

/// The index of the mutation that counts claims.
pub(super) const SEQUENCE: u32 = 0;

/// A new code.
pub(super) fn generated<S>(world: &World<'_, S>) -> String {
    ids::token(&(world.fresh)(), CODE_LENGTH)
}

/// A claim's documents, with blanks for its texts: its id, its campaign, its user, its code, when it expires, and its metadata.
pub(super) struct Forms {
    pub(super) answer: Form,
    pub(super) claim: Form,
    pub(super) announcement: Form,
}

/// In what the documents of claims differ.
#[derive(Clone, Copy)]
pub(super) enum FormKind {
    Plain,
    WithCode,
    Held,
}

impl FormKind {
    /// The documents of claims of one unit, without metadata.
    pub(super) fn usual(self) -> &'static Forms {
        static PLAIN: LazyLock<Forms> = LazyLock::new(|| FormKind::Plain.forms(1, None));
        static WITH_CODE: LazyLock<Forms> = LazyLock::new(|| FormKind::WithCode.forms(1, None));
        static HELD: LazyLock<Forms> = LazyLock::new(|| FormKind::Held.forms(1, None));
        match self {
            Self::Plain => &PLAIN,
            Self::WithCode => &WITH_CODE,
            Self::Held => &HELD,
        }
    }

    pub(super) fn forms(self, units: u64, metadata: Option<JsonBlank>) -> Forms {
        let (status, code, expires_at) = match self {
            Self::Plain => (Status::Confirmed, None, None),
            Self::WithCode => (Status::Confirmed, Some(Blank(3)), None),
            Self::Held => (Status::Held, None, Some(Blank(4))),
        };
        let claim = Claim {
            id: Blank(0),
            campaign: Blank(1),
            user: Blank(2),
            sequence: Number::Sum(SEQUENCE),
            units,
            code,
            status,
            metadata,
            time: Number::Time,
            expires_at,
        };
        Forms {
            answer: Form::of(&claim.admitted()),
            claim: Form::of(&claim),
            announcement: Form::of(&claim.announcement()),
        }
    }
}

/// The documents of a claim of one unit that is held: its record, and the data of its message.
pub(super) fn held_documents(
    campaign: &Campaign,
    user: &str,
    claim: &str,
    hold: &Hold,
) -> (Template, Template) {
    let texts = [claim, &campaign.id, user, "", &hold.text];
    let forms = FormKind::Held.usual();
    (forms.claim.fill(&texts), forms.announcement.fill(&texts))
}
