;; A guest that does what the request's header `op` says and answers with 200 + the status of the host function.
(module
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header_value (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $as (param i32) (result i32)))
  (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "op")
  (data (i32.const 1032) "k")
  (data (i32.const 1040) "v")
  (data (i32.const 1048) "cas")
  (data (i32.const 1056) "dup")
  (data (i32.const 1064) "request\00headers\00dup")
  (data (i32.const 1100) "waiting")
  (data (i32.const 1120) "streams_seen")
  ;; Three headers: :path /, :method GET, :authority a.
  (data (i32.const 1200)
    "\03\00\00\00\05\00\00\00\01\00\00\00\07\00\00\00\03\00\00\00\0a\00\00\00\01\00\00\00"
    ":path\00/\00:method\00GET\00:authority\00a\00")
  (global $top (mut i32) (i32.const 8192))
  (global $held (mut i32) (i32.const 0))
  (global $resumes (mut i32) (i32.const 1))
  (global $queue (mut i32) (i32.const 0))

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $at))

  ;; Puts a request header's place at `out` and its length at `out + 4`.
  (func $header (param $name i32) (param $length i32) (param $out i32) (result i32)
    (i64.store (local.get $out) (i64.const 0))
    (call $header_value (i32.const 0) (local.get $name) (local.get $length)
      (local.get $out) (i32.add (local.get $out) (i32.const 4))))

  ;; Answers with 200 + status, and the bytes that `from` points to.
  (func $reply (param $status i32) (param $from i32)
    (drop (call $send (i32.add (i32.const 200) (local.get $status)) (i32.const 0) (i32.const 0)
      (i32.load (local.get $from)) (i32.load (i32.add (local.get $from) (i32.const 4)))
      (i32.const 0) (i32.const 0) (i32.const -1))))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $register (i32.const 1100) (i32.const 7) (i32.const 64)))
    (global.set $queue (i32.load (i32.const 64)))
    (drop (call $define (i32.const 0) (i32.const 1120) (i32.const 12) (i32.const 68)))
    (i32.const 1))

  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (local $op i32)
    (local $cas i32)
    (drop (call $increment (i32.load (i32.const 68)) (i64.const 1)))
    (i64.store (i32.const 56) (i64.const 0))
    (drop (call $header (i32.const 1024) (i32.const 2) (i32.const 0)))
    (if (i32.eqz (i32.load (i32.const 4))) (then (return (i32.const 0))))
    (local.set $op (i32.load8_u (i32.load (i32.const 0))))
    (drop (call $header (i32.const 1032) (i32.const 1) (i32.const 8)))
    (drop (call $header (i32.const 1040) (i32.const 1) (i32.const 16)))
    ;; s: set k to v with the number in `cas`.
    (if (i32.eq (local.get $op) (i32.const 115)) (then
      (drop (call $header (i32.const 1048) (i32.const 3) (i32.const 24)))
      (call $reply (call $set (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.load (i32.const 16))
        (i32.load (i32.const 20)) (i32.load (i32.load (i32.const 24)))) (i32.const 56))
      (return (i32.const 1))))
    ;; u: read k, then set it to v unless somebody wrote in between; create it if it is missing.
    (if (i32.eq (local.get $op) (i32.const 117)) (then
      (i32.store (i32.const 40) (i32.const -1))
      (drop (call $get (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 32) (i32.const 36) (i32.const 40)))
      (call $reply (call $set (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.load (i32.const 16))
        (i32.load (i32.const 20)) (i32.load (i32.const 40))) (i32.const 56))
      (return (i32.const 1))))
    ;; g: read k.
    (if (i32.eq (local.get $op) (i32.const 103)) (then
      (i64.store (i32.const 32) (i64.const 0))
      (call $reply (call $get (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 32) (i32.const 36)
        (i32.const 40)) (i32.const 32))
      (return (i32.const 1))))
    ;; h: read the header `dup`.
    (if (i32.eq (local.get $op) (i32.const 104)) (then
      (call $reply (call $header (i32.const 1056) (i32.const 3) (i32.const 32)) (i32.const 32))
      (return (i32.const 1))))
    ;; j: read the property request.headers.dup.
    (if (i32.eq (local.get $op) (i32.const 106)) (then
      (call $reply (call $property (i32.const 1064) (i32.const 19) (i32.const 32) (i32.const 36)) (i32.const 32))
      (return (i32.const 1))))
    ;; t: read the clock whose number is in `cas`.
    (if (i32.eq (local.get $op) (i32.const 116)) (then
      (drop (call $header (i32.const 1048) (i32.const 3) (i32.const 24)))
      (i32.store (i32.const 32) (i32.const 80))
      (i32.store (i32.const 36) (i32.const 8))
      (call $reply (call $clock (i32.load (i32.load (i32.const 24))) (i64.const 0) (i32.const 80)) (i32.const 32))
      (return (i32.const 1))))
    ;; p: hold the stream; the next tick resumes it.
    (if (i32.eq (local.get $op) (i32.const 112)) (then
      (global.set $held (local.get $id))
      (return (i32.const 1))))
    ;; 2: the same, but the next tick resumes it twice.
    (if (i32.eq (local.get $op) (i32.const 50)) (then
      (global.set $held (local.get $id))
      (global.set $resumes (i32.const 2))
      (return (i32.const 1))))
    ;; b: answer, then resume.
    (if (i32.eq (local.get $op) (i32.const 98)) (then
      (call $reply (i32.const 0) (i32.const 56))
      (drop (call $continue (i32.const 0)))
      (return (i32.const 1))))
    ;; q: call the cluster k with the body v, and hold the stream until the answer; or answer if it cannot be called.
    (if (i32.eq (local.get $op) (i32.const 113)) (then
      (global.set $held (local.get $id))
      (local.set $cas (call $call (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 1200) (i32.const 69)
        (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 72)))
      (if (local.get $cas) (then (call $reply (local.get $cas) (i32.const 56))))
      (return (i32.const 1))))
    ;; e: put k into the queue, and hold the stream until the notice arrives.
    (if (i32.eq (local.get $op) (i32.const 101)) (then
      (global.set $held (local.get $id))
      (drop (call $enqueue (global.get $queue) (i32.load (i32.const 8)) (i32.load (i32.const 12))))
      (return (i32.const 1))))
    ;; x: trap.
    (if (i32.eq (local.get $op) (i32.const 120)) (then (unreachable)))
    (i32.const 0))

  (func (export "proxy_on_tick") (param i32)
    (if (call $as (global.get $held)) (then (drop (call $log (i32.const 3) (i32.const 1100) (i32.const 7))) (return)))
    (loop $again
      ;; After the headers phase there are no headers.
      (if (i32.eq (global.get $resumes) (i32.const 1)) (then
        (drop (call $header (i32.const 1056) (i32.const 3) (i32.const 32)))))
      (drop (call $continue (i32.const 0)))
      (global.set $resumes (i32.sub (global.get $resumes) (i32.const 1)))
      (br_if $again (global.get $resumes)))
    (global.set $resumes (i32.const 1)))

  (func (export "proxy_on_http_call_response") (param i32) (param $token i32) (param $count i32) (param $size i32) (param i32)
    (i64.store (i32.const 32) (i64.const 0))
    (drop (call $buffer (i32.const 4) (i32.const 0) (local.get $size) (i32.const 32) (i32.const 36)))
    (if (call $as (global.get $held)) (then (drop (call $log (i32.const 3) (i32.const 1100) (i32.const 7))) (return)))
    (call $reply (local.get $count) (i32.const 32)))

  (func (export "proxy_on_queue_ready") (param i32) (param $token i32)
    (local $status i32)
    (i64.store (i32.const 32) (i64.const 0))
    (local.set $status (call $dequeue (local.get $token) (i32.const 32) (i32.const 36)))
    (drop (call $as (global.get $held)))
    (call $reply (local.get $status) (i32.const 32)))

  ;; The headers are back while a stream is logged.
  (func (export "proxy_on_log") (param i32)
    (if (i32.eqz (call $header (i32.const 1056) (i32.const 3) (i32.const 32))) (then
      (drop (call $log (i32.const 2) (i32.load (i32.const 32)) (i32.load (i32.const 36))))))))
