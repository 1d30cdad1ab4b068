//! The buckets: `ports::Buckets` in one script per take.

use std::collections::HashMap;
use std::rc::Rc;

use tollgate_store::bucket::{Asked, Bucket, Level, TakeError};
use tollgate_store::ports::Buckets;

use crate::database::{Again, Database, Failure, run};
use crate::reply::Replies;
use crate::script;

/// Buckets that are kept. Beyond it those go that are full soonest: their loss lets the least through.
const MAX_KEPT: u32 = 100_000;

/// Token buckets in Redis.
pub struct RedisBuckets<D> {
    database: Rc<D>,
    kept: u32,
}

impl<D: Database> RedisBuckets<D> {
    /// Buckets in the database.
    pub fn new(database: Rc<D>) -> Self {
        Self::keeping(database, MAX_KEPT)
    }

    /// The same with a bound of its own.
    pub fn keeping(database: Rc<D>, kept: u32) -> Self {
        Self { database, kept }
    }

    /// The levels of the buckets, and whether all was granted.
    async fn ask(&self, asked: &Asked, looks: bool) -> Result<(HashMap<String, u64>, bool), TakeError> {
        let clock = self.database.bucket_clock().map(|now| now.to_string());
        let mut arguments = vec![
            clock.unwrap_or_default().into_bytes(),
            u8::from(looks).to_string().into_bytes(),
            self.kept.to_string().into_bytes(),
        ];
        for (key, scale) in asked.distinct() {
            arguments.push(key.as_bytes().to_vec());
            for number in [scale.token, scale.rate, scale.full, scale.cost] {
                arguments.push(number.to_string().into_bytes());
            }
        }
        // Taken twice it lets less through, never more: so a lost connection does no harm.
        let replies = run(&*self.database, Again::Harmless, &script::TAKE, arguments).await;
        let replies = replies.map_err(|failure| match failure.is_busy() {
            true => TakeError::Busy(failure.into_message()),
            false => unavailable(failure),
        })?;
        let mut replies = Replies::new(replies);
        let granted = replies.number().map_err(unavailable)? == 1;
        let mut held = HashMap::new();
        while replies.left() > 0 {
            let key = replies.text().map_err(unavailable)?;
            held.insert(key, replies.number().map_err(unavailable)?);
        }
        Ok((held, granted))
    }
}

fn unavailable(failure: Failure) -> TakeError {
    TakeError::Unavailable(failure.into_message())
}

impl<D: Database> Buckets for RedisBuckets<D> {
    async fn take(&self, buckets: Vec<Bucket>) -> Result<Vec<Level>, TakeError> {
        let asked = Asked::check(&buckets)?;
        if asked.only_reads() {
            let (held, _) = self.ask(&asked, true).await?;
            return Ok(asked.levels(&held, false));
        }
        // The script itself writes nothing where it refuses.
        let (held, granted) = self.ask(&asked, false).await?;
        match granted {
            true => Ok(asked.levels(&held, false)),
            false => {
                let index = asked.lacking(&held).unwrap_or(0);
                let levels = asked.levels(&held, true);
                Err(TakeError::Refused { index, levels })
            }
        }
    }
}
