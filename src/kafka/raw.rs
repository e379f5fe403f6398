//! The calls of librdkafka that the crate does not wrap, each behind a safe type.
//!
//! All `unsafe` of the program stands in this file.

#![allow(
    unsafe_code,
    reason = "librdkafka's queues and batch call, which the crate does not wrap"
)]

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;

use crate::event::Timestamp;
use crate::log::InputRecord;
use crate::log::client::TxnError;

/// A queue of a consumer, which it keeps alive: librdkafka wants every queue destroyed
/// before its client.
pub struct Queue<C: ConsumerContext> {
    ptr: NonNull<sys::rd_kafka_queue_t>,
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl<C: ConsumerContext> Send for Queue<C> {}

impl<C: ConsumerContext> Queue<C> {
    /// A queue of its own, to which others are forwarded.
    pub fn new(consumer: &Arc<BaseConsumer<C>>) -> Queue<C> {
        // SAFETY: the client lives as long as `consumer`; the call cannot fail.
        let ptr = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Queue {
            ptr: NonNull::new(ptr).unwrap_or_else(|| unreachable!("rd_kafka_queue_new aborts")),
            consumer: Arc::clone(consumer),
        }
    }

    /// The queue of one partition, whose records go to `target` from now on. It must be
    /// called before the partition is assigned and kept until it is revoked.
    pub fn forwarded(topic: &str, partition: i32, target: &Queue<C>) -> Option<Queue<C>> {
        let topic = CString::new(topic).ok()?;
        let client = target.consumer.client().native_ptr();
        // SAFETY: both pointers are valid for the call; the result is owned by us.
        let ptr = unsafe { sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        let ptr = NonNull::new(ptr)?;
        // SAFETY: both queues are alive.
        unsafe { sys::rd_kafka_queue_forward(ptr.as_ptr(), target.ptr.as_ptr()) };
        Some(Queue {
            ptr,
            consumer: Arc::clone(&target.consumer),
        })
    }

    /// Takes what is in the queue, at most the buffer's capacity. With a `wait`, it returns
    /// only when the buffer is full or the time is over: ask for one record to wait for the
    /// first.
    pub fn take<'b>(&self, wait: Duration, limit: usize, into: &'b mut Buffer) -> Batch<'b> {
        let limit = limit.min(into.slots.capacity());
        into.slots.clear();
        // SAFETY: the buffer has room for `limit` pointers, and the call says how many of
        // them it wrote.
        unsafe {
            let count = sys::rd_kafka_consume_batch_queue(
                self.ptr.as_ptr(),
                millis(wait),
                into.slots.as_mut_ptr(),
                limit,
            );
            into.slots.set_len(usize::try_from(count).unwrap_or(0));
        }
        Batch { slots: &into.slots }
    }
}

impl<C: ConsumerContext> Drop for Queue<C> {
    fn drop(&mut self) {
        // SAFETY: the pointer is ours and the client is still alive.
        unsafe { sys::rd_kafka_queue_destroy(self.ptr.as_ptr()) }
    }
}

/// Room for the records of one call, reused.
pub struct Buffer {
    slots: Vec<*mut sys::rd_kafka_message_t>,
}

// SAFETY: between calls the buffer is empty or holds messages that any thread may destroy.
unsafe impl Send for Buffer {}

impl Buffer {
    pub fn new(capacity: usize) -> Buffer {
        Buffer {
            slots: Vec::with_capacity(capacity),
        }
    }
}

/// What came out of a queue: a record, or news about its partition.
pub enum Item<'a> {
    Record(InputRecord<'a>),
    /// The end of the partition as the reader may see it, where `enable.partition.eof` is on.
    End {
        offset: i64,
    },
    Error {
        partition: i32,
        code: RDKafkaErrorCode,
    },
}

/// The records of one call; they are destroyed with it.
pub struct Batch<'b> {
    slots: &'b [*mut sys::rd_kafka_message_t],
}

impl Batch<'_> {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the last record bears its producer's time, where the topic should give it the
    /// broker's.
    pub fn bears_producers_time(&self) -> bool {
        self.slots.last().is_some_and(|slot| {
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            // SAFETY: every slot is a message that lives until this batch is dropped.
            unsafe { sys::rd_kafka_message_timestamp(*slot, &raw mut kind) };
            kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME
        })
    }

    /// The last header `name` of the record number `at`.
    pub fn header(&self, at: usize, name: &CStr) -> Option<&[u8]> {
        let slot = *self.slots.get(at)?;
        let mut headers = std::ptr::null_mut();
        let (mut value, mut length) = (std::ptr::null(), 0);
        // SAFETY: the slot is a message that lives until this batch is dropped, and its headers
        // live as long; all pointers are valid for the calls.
        unsafe {
            let found = |code| code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if !found(sys::rd_kafka_message_headers(slot, &raw mut headers)) {
                return None;
            }
            let last = sys::rd_kafka_header_get_last(
                headers,
                name.as_ptr(),
                &raw mut value,
                &raw mut length,
            );
            if found(last) {
                bytes(value, length)
            } else {
                None
            }
        }
    }

    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        // SAFETY: every slot is a message that lives until this batch is dropped.
        self.slots.iter().map(|slot| unsafe { item(*slot) })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for slot in self.slots {
            // SAFETY: each message is destroyed once, here.
            unsafe { sys::rd_kafka_message_destroy(*slot) }
        }
    }
}

/// # Safety
/// `message` must be valid for `'a`.
unsafe fn item<'a>(message: *const sys::rd_kafka_message_t) -> Item<'a> {
    // SAFETY: as the caller promises; key and payload live as long as the message.
    unsafe {
        let m = &*message;
        match m.err {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                return Item::End { offset: m.offset };
            }
            code => {
                return Item::Error {
                    partition: m.partition,
                    code: code.into(),
                };
            }
        }
        Item::Record(InputRecord {
            partition: m.partition,
            offset: m.offset,
            broker_time: Timestamp(
                sys::rd_kafka_message_timestamp(message, std::ptr::null_mut()).max(0),
            ),
            key: bytes(m.key, m.key_len),
            payload: bytes(m.payload, m.len),
        })
    }
}

/// # Safety
/// `ptr` is null, or `len` bytes from it are valid for `'a`.
unsafe fn bytes<'a>(ptr: *const std::ffi::c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!ptr.is_null()).then(|| unsafe { std::slice::from_raw_parts(ptr.cast(), len) })
}

/// The offset after the newest record of a partition, as the last fetch told; no request
/// is made.
pub fn cached_high_watermark<C: ClientContext>(
    client: &Client<C>,
    topic: &CStr,
    partition: i32,
) -> Option<i64> {
    let (mut low, mut high) = (0, 0);
    // SAFETY: all pointers are valid for the call.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    let known = code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0;
    known.then_some(high)
}

/// Who this consumer is in its group, at one moment.
pub struct Membership(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: it is a plain value that is only read.
unsafe impl Send for Membership {}
// SAFETY: as above.
unsafe impl Sync for Membership {}

impl Membership {
    /// `None` while the consumer is no member: a commit with generation -1 and no member id
    /// would pass every check of the broker.
    pub fn of<C: ClientContext>(client: &Client<C>) -> Option<Membership> {
        // SAFETY: the client is alive; the result is ours.
        let ptr = unsafe { sys::rd_kafka_consumer_group_metadata(client.native_ptr()) };
        let this = Membership(NonNull::new(ptr)?);
        // SAFETY: the pointer is valid; the member id is a string or null.
        let is_member = unsafe {
            let member = sys::rd_kafka_consumer_group_metadata_member_id(this.0.as_ptr());
            sys::rd_kafka_consumer_group_metadata_generation_id(this.0.as_ptr()) >= 0
                && !member.is_null()
                && *member != 0
        };
        is_member.then_some(this)
    }

    /// The id that the group gave to this member; another one after it was thrown out.
    pub fn member_id(&self) -> &CStr {
        // SAFETY: the string is not null (`of`) and lives as long as the metadata.
        unsafe {
            CStr::from_ptr(sys::rd_kafka_consumer_group_metadata_member_id(
                self.0.as_ptr(),
            ))
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // SAFETY: the pointer is ours.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Adds the input offsets to the open transaction.
pub fn send_offsets<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    member: &Membership,
    timeout: Duration,
) -> Result<(), TxnError> {
    // SAFETY: all pointers are valid for the call.
    checked(unsafe {
        sys::rd_kafka_send_offsets_to_transaction(
            client.native_ptr(),
            offsets.ptr(),
            member.0.as_ptr(),
            millis(timeout),
        )
    })
}

/// How long the broker that `client` embeds (`test.mock.num.brokers`) waits for further
/// members of a new group. `false` where it embeds none.
pub fn set_embedded_rebalance_delay<C: ClientContext>(client: &Client<C>, delay_ms: i32) -> bool {
    // SAFETY: the handle belongs to the client, which outlives this call.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms);
        }
        !cluster.is_null()
    }
}

/// Registers the transactional id: fences an older producer and ends its transaction.
pub fn init_transactions<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<(), TxnError> {
    // SAFETY: the client is alive.
    checked(unsafe { sys::rd_kafka_init_transactions(client.native_ptr(), millis(timeout)) })
}

pub fn begin_transaction<C: ClientContext>(client: &Client<C>) -> Result<(), TxnError> {
    // SAFETY: the client is alive.
    checked(unsafe { sys::rd_kafka_begin_transaction(client.native_ptr()) })
}

/// Delivers what was produced and commits. The crate's own call polls in slices of 100 ms;
/// this one returns when the broker has answered, as long as another thread serves the
/// client's delivery reports.
pub fn commit_transaction<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<(), TxnError> {
    // SAFETY: the client is alive.
    checked(unsafe { sys::rd_kafka_commit_transaction(client.native_ptr(), millis(timeout)) })
}

pub fn abort_transaction<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<(), TxnError> {
    // SAFETY: the client is alive.
    checked(unsafe { sys::rd_kafka_abort_transaction(client.native_ptr(), millis(timeout)) })
}

/// Waits until all that was produced is delivered or has failed; false on timeout.
/// Another thread must serve the client's delivery reports.
pub fn flush<C: ClientContext>(client: &Client<C>, timeout: Duration) -> bool {
    // SAFETY: the client is alive.
    let code = unsafe { sys::rd_kafka_flush(client.native_ptr(), millis(timeout)) };
    code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

fn checked(error: *mut sys::rd_kafka_error_t) -> Result<(), TxnError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is ours; its string lives until it is destroyed below.
    unsafe {
        let found = TxnError {
            code: sys::rd_kafka_error_code(error).into(),
            text: CStr::from_ptr(sys::rd_kafka_error_string(error))
                .to_string_lossy()
                .into_owned(),
            fatal: sys::rd_kafka_error_is_fatal(error) != 0,
            retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            must_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
        };
        sys::rd_kafka_error_destroy(error);
        Err(found)
    }
}

fn millis(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}
