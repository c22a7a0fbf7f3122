/**
 * The wire messages that the page reads, as types. docs/protocol.md says what each means.
 *
 * Times are seconds since the session's first sample; positions are bytes of the audio that this page sent.
 *
 * @typedef {{text: string, start: number, end: number, probability?: number, speaker?: string | null}} Word
 *   `text` keeps its leading space, so that words concatenate to the transcript.
 *
 * @typedef {{type: "ready", session: string, token: string, received_bytes: number, last_seq: number,
 *   max_unacked_bytes: number, idle_timeout?: number, resume_url?: string, models?: Models,
 *   server?: {name: string, version: string}}} Ready
 * @typedef {{recognizer?: {name: string, languages?: string[], device?: string, compute_type?: string}}} Models
 * @typedef {{type: "ack", bytes: number}} Ack
 * @typedef {{type: "speech", state: "started" | "ended", time: number, channel?: number}} Speech
 * @typedef {{type: "partial", text: string, words: Word[], start: number, end: number}} Partial
 * @typedef {{type: "commit", seq: number, words: Word[], text: string, utterance: number}} Commit
 * @typedef {{type: "label", seq: number, from: number, to: number, speaker: string}} Label
 * @typedef {{type: "utterance", seq: number, utterance: number, start: number, end: number, text: string,
 *   speaker?: string | null, language?: string | null}} UtteranceEnded
 * @typedef {{type: "lag", received: number, committed: number, seconds: number}} Lag
 * @typedef {{type: "paused", seq: number, time: number, paused: boolean}} Paused
 * @typedef {{type: "stopped", seq: number, duration: number, text: string}} Stopped
 * @typedef {{type: "progress", stage: string, fraction: number}} Progress
 * @typedef {{start: number, end: number, speaker: string | null, text: string, words?: Word[]}} FinalSegment
 * @typedef {{label: string, live_labels: string[], duration: number, turns: number}} FinalSpeaker
 *   `live_labels` are those that became this speaker; `duration` is for how many seconds the speaker talks.
 * @typedef {{type: "final", seq: number, revision: number, duration: number, language?: string | null, text: string,
 *   segments?: FinalSegment[], speakers?: FinalSpeaker[], labels?: "full" | "live" | null,
 *   links?: Record<string, string>}} Final
 *   `labels` says where the speakers come from: the full pass or, where that failed, the live labels.
 * @typedef {{type: "notice", code: string, message: string}} Notice
 * @typedef {{type: "error", code: string, message: string, hint?: string, retry_after?: number}} Refusal
 */

export {};
