/**
 * What the pages say, in English. The other tables have the same keys, and functions of as many arguments; `web/state/locale.js`
 * says which is used. Numbers and times come written in the page's language, but for counts that choose a plural.
 */

export default {
  /** How the page stands, by state: what is so, and what to do next. */
  STATUS: {
    idle: "Ready",
    insecure: "Not a secure address",
    insecureDetail:
      "Browsers allow a microphone only on https:// addresses and on localhost. Open this page at one of those. " +
      "You can still transcribe recordings here.",
    unsupported: "Browser too old",
    unsupportedDetail:
      "This browser doesn't let a page process sound. Update it, or use a current Firefox, Chrome, Edge or Safari.",
    asking: "Asking for permission",
    askingDetail: "Your browser is asking whether this page may use the microphone. Choose “Allow”.",
    denied: "Microphone blocked",
    deniedDetail:
      "This page isn't allowed to use the microphone. Allow it with the icon next to the address (and in your system's privacy " +
      "settings), then press Start.",
    noDevice: "No microphone found",
    noDeviceDetail: "Plug one in or switch it on, then press Start. You can transcribe recordings without one.",
    deviceBusy: "Microphone not available",
    deviceBusyDetail: "Another program may be using it. Close that program or choose another microphone, then press Start.",
    connecting: "Connecting",
    connectingDetail: "You can start speaking: nothing is lost.",
    connectingFile: "Getting ready for the recording.",
    live: "Live",
    transcribing: "Transcribing",
    paused: "Paused",
    pausedDetail: "Nothing you say is sent. Press Resume to go on.",
    finishing: "Finishing",
    finishingDetail: "Finishing the last words.",
    done: "Done",
    doneWithGaps: "Done, with gaps",
    full: "Server full",
    fullDetail: (/** @type {number} */ wait) => `The server is at capacity. Trying again ${wait ? `in ${wait} s` : "now"}.`,
    lost: "Connection lost",
    lostDetail:
      "What you have read stays here to copy or save. Check the network, then press Start: that begins a new transcript.",
    unreachable: "Can't reach the server",
    unreachableDetail: "Nothing is answering at this address. Check that live-asr is running, then press Start.",
    restarting: "Server restarting",
    failed: "That didn't work",
    reconnecting: "Reconnecting",
    keepSpeaking: "Nothing is lost. Keep speaking: the sound is kept here until the server is back.",
    picksUp: "Nothing is lost. It will pick up where it left off.",
    leftOut: (/** @type {string} */ amount) =>
      `This page can keep an hour of sound, and that much is waiting. ${amount} since then had to be left out.`,
    microphoneGone: "The microphone is gone: plug it in again or choose another.",
    asleep: "The browser has put the sound to sleep: click anywhere to go on.",
    unanswered: (/** @type {number} */ seconds) =>
      `The server hasn't answered for ${seconds} s. The sound is kept and will be sent.`,
    quiet: (/** @type {number} */ seconds) =>
      `No sound for ${seconds} s. Is the microphone muted, or is the wrong one selected?`,
    fileCut: (/** @type {string} */ percent) =>
      `The connection was down for too long: the last ${percent} of the recording had to be left out.`,
    soundCut: (/** @type {string} */ amount) =>
      `The connection was down for too long, or too slow: ${amount} of sound had to be left out.`,
    nothingSaid: "No words were recognised. Was there speech, and is the right language selected?",
    summary: (/** @type {number} */ words, /** @type {string} */ shown, /** @type {number} */ speakers, /** @type {string} */ time) =>
      `${words === 1 ? "1 word" : `${shown} words`}${speakers > 1 ? ` by ${speakers} speakers` : ""} in ${time}.`,
    whatNow: "Copy or save them, or start again.",
    unheard: (/** @type {string} */ amount) => `The microphone was off for ${amount} of it.`,
    unsettled: "The connection ended before the full pass finished: this is what was heard live.",
    passFailed: "The full pass failed: the speakers are as heard live.",
  },

  /** What the full pass does. */
  PASS: {
    who: "Finding out who spoke",
    again: "Going over it once more",
    waiting: (/** @type {string} */ what) => `${what}.`,
    loading: (/** @type {string} */ what) => `${what}: getting ready.`,
    progress: (/** @type {string} */ what, /** @type {string} */ percent) => `${what}, ${percent}.`,
    segmentation: "Finding out who spoke: where each turn begins and ends",
    embeddings: "Finding out who spoke: what each voice sounds like",
    clustering: "Finding out who spoke: which voices are the same",
    recognition: "Transcribing again, with the whole recording to go by",
  },

  /** What a reader is told of the server's errors, by code; `other` for all further ones. */
  FAILURES: {
    not_audio: "This file has no sound that can be read. Choose an audio or video file in a common format.",
    shutting_down: "The server is restarting. Press Start in a moment.",
    unauthorized: "This server requires a token. Open the address you were given: it ends in #token=…",
    origin_not_allowed: "This server doesn't accept connections from this address. Open the page at the server's own address.",
    language_unsupported: "The server's model doesn't know this language. Choose another, or “Detect language”.",
    task_unsupported: "The server's model can't translate. In Settings, choose captions in the language spoken.",
    storage_full: "The server's disk is full, so it can't accept any more sound. Please let its operator know.",
    slow_client: "Your network was too slow for the captions. Check it, then press Start.",
    overrun: "Your network was too slow to send the sound. Check it, then press Start.",
    start_timeout: "The connection took too long. Press Start to try again.",
    session_erased: "This session was erased on the server. What you have read stays here to copy or save.",
    resumed_elsewhere: "This session is now running in another window.",
    internal: "Something went wrong on the server. Press Start to try again.",
    other: "The server ended the captions. Press Start to try again.",
  },

  /** What is said of a talk on its way, each once. */
  NOTICES: {
    taken_up_elsewhere: "This talk goes on in another tab, or is over.",
    not_kept: "This browser has no room to keep the sound: do not close this page before the server has all of it.",
    session_followed:
      "The server had ended the session: the captions go on in a new one. Those who read along need its link: share it again.",
    audio_lost: (/** @type {string} */ amount) =>
      `The server has lost ${amount} of the sound that it had already. ` +
      "What you have read stays; the recording goes on without it.",
    recording_lost: "The server has lost some of the recording that it had already. Add it again afterwards to have all of it.",
    unheard: (/** @type {string} */ amount) =>
      `The microphone was off for ${amount}: what was said in that time is not in the captions.`,
    microphone_found: (/** @type {string} */ name) => (name ? `Listening again, to “${name}”.` : "Listening again."),
    microphone_unchanged: "The other microphone could not be opened; listening to the same one as before.",
    ended_while_away: "The connection was away for longer than the server waits: it has ended the session.",
    busy: "Stop the current captions first, then add the recording again.",
    one_recording: (/** @type {string} */ taken, /** @type {string} */ ignored) =>
      `One recording at a time: “${taken}” is being transcribed, “${ignored}” is ignored.`,
    one_of_many: (/** @type {string} */ taken, /** @type {number} */ ignored) =>
      `One recording at a time: “${taken}” is being transcribed, ${ignored} others are ignored.`,
    name_not_kept: "The server couldn't save the name: it stays on this page and in the files you save here.",
    file_empty: (/** @type {string} */ file) => `“${file}” is empty.`,
    file_empty_hint: "Choose another recording.",
    file_unreadable: (/** @type {string} */ file) => `“${file}” cannot be read.`,
    file_unreadable_hint: "It may have been moved, or its drive taken away. Choose it again.",
    saved_here: "The server isn't answering: this page's own copy was saved.",
    not_saved: "The server does not answer, and only the server can make a document. Save it as text, or try again.",
    saved_live: "Saved the live captions: the final text is still being made.",
    dismiss: "Dismiss",
  },

  /** A talk that is kept and that no page goes on with. */
  OFFER: {
    title: (/** @type {string} */ time) => `Your talk from ${time} is still open.`,
    detail: (/** @type {string} */ amount) => `${amount} of its sound are kept here and may not have reached the server yet.`,
    dayAndTime: (/** @type {string} */ day, /** @type {string} */ time) => `${day}, ${time}`,
    goOn: "Go on",
    end: "End it",
    erase: "Delete",
    reallyErase: (/** @type {string} */ amount) =>
      `Delete ${amount} of sound that the server may not have? This cannot be undone.`,
  },

  /** Lengths of time. */
  TIME: {
    seconds: (/** @type {string} */ seconds) => `${seconds} s`,
    minutes: (/** @type {number} */ minutes) => `${minutes} min`,
    both: (/** @type {number} */ minutes, /** @type {number} */ seconds) => `${minutes} min ${seconds} s`,
  },

  /** What the microphone hears. */
  HEARING: {
    paused: "Not listening",
    none: "No sound",
    speech: "Hearing speech",
    sound: "Hearing sound",
    listening: "Listening",
  },

  /** What a hall reads beside the captions: not what the presenter is told. */
  HALL: {
    soon: "The captions will start in a moment.",
    stopped: "The captions have stopped.",
    back: "The captions will be back in a moment.",
  },

  /** Interrupting a talk, and ending it. */
  TALK: {
    paused: "Paused",
    pause: "Pause",
    resume: "Resume",
    askTitle: "Stop the captions?",
    ask: "The transcript ends here for you and your audience. To carry on after a break, pause instead.",
    askPaused: "The transcript ends here for you and your audience.",
    keepGoing: "Keep going",
    stop: "Stop",
  },

  /** Formats of files. */
  FORMATS: {
    txt: "Text",
    docx: "Document",
    vtt: "WebVTT captions",
    srt: "SubRip subtitles",
    json: "Words and times",
    rttm: "Who spoke when",
  },

  /** What stands in the HTML of the main page. */
  PAGE: {
    ready: "Ready",
    elapsedHint: "Sound so far",
    lagHint: "How long ago the newest confirmed word was spoken. Grey words are newer and may still change.",
    lagBefore: "confirmed ",
    lagAfter: " ago",
    notConfirmed: " (not confirmed)",
    copy: "Copy",
    copyHint: "Copy the text",
    copied: "Copied",
    notCopied: "Not copied",
    save: "Save",
    saveHint: "Save the transcript",
    share: "Share",
    shareHint: "Let others read along",
    past: "Past",
    pastHint: "Past sessions: read, correct, save",
    stage: "Stage",
    stageHint: "Fill the screen with large type",
    who: "Who spoke when",
    captions: "Captions",
    heroTitle: "Speak, and read along",
    heroDetail: "Press Start and talk: your words appear here as you say them.",
    heroMore: "Or drop a recording anywhere on this page.",
    listening: "Listening",
    heroListening: "The words appear here a moment after they are spoken.",
    heroTranscribing: "The words appear here a moment after they are recognised.",
    jump: "Jump to live",
    jumpToEnd: "Jump to the end",
    showFinal: "Show the final text",
    showLive: "Show the live captions",
    openTalks: "Talks that are still open",
    fileProgress: "Recording transcribed",
    pass: "Full pass",
    start: "Start",
    stop: "Stop",
    giveUp: "Give up",
    cancel: "Cancel",
    finishing: "Finishing",
    startHint: "Start or stop",
    pause: "Pause",
    level: "Microphone level",
    microphone: "Microphone",
    defaultMicrophone: "Default microphone",
    microphoneNumber: (/** @type {number} */ number) => `Microphone ${number}`,
    spoken: "Spoken language",
    detect: "Detect language",
    detected: (/** @type {string} */ language) => `${language} (detected)`,
    settings: "Settings",
    settingsHint: "Settings and shortcuts",
    recording: "Recording",
    recordingHint: "Transcribe a recording",
    recordingChoice: "Recording to transcribe",
    saveWhat: "What to save",
    saveFinal: "Final text",
    saveLive: "Live captions",
    saveAwaited: "The final text is still being made. This saves the live captions.",
    previous: "Previous transcript",
    expected: "Words to expect",
    expectedPlaceholder: "Names and terms, separated by commas",
    expectedAbout: "Helps with names that the recogniser couldn't otherwise know.",
    transcribe: "In the language spoken",
    translate: "Translated into English",
    noise: "Suppress noise",
    echo: "Cancel echo from loudspeakers",
    soundAbout:
      "Both are designed for calls and can swallow soft syllables. Leave them off unless they improve the captions.",
    diarize: "Tell speakers apart",
    announce: "Have screen readers read out finished captions",
    tongue: "Language of this page",
    tongueAuto: "Same as the browser",
    /** What cannot be changed while somebody is live. */
    locked: "You can change this once the captions have stopped.",
    model: (/** @type {string} */ model) => `Recognised by Whisper ${model}, on this server.`,
    stageView: "Stage view",
    smaller: "Smaller text",
    larger: "Larger text",
    leave: "Leave",
    drop: "Drop the recording to transcribe it",
    finished: "Finished captions",
  },

  /** The panel to share a session. */
  SHARE: {
    title: "Title for the audience",
    titleHint: "What the audience reads above the captions",
    titleNotKept: "The server could not keep the title. Try again in a moment.",
    code: "QR code of the link",
    here: "This link works only on this computer. To share it, open this page at an https:// address that others can reach.",
    unreachable: "The server isn't answering. Open this panel again in a moment.",
    link: "Link for the audience",
    copyLink: "Copy the link",
    open: "Open",
    overlay: "Overlay",
    overlayHint: "Two or three lines on a transparent background, for OBS and similar programs",
    customise: "Overlay and stage settings",
    customiseHint: "Size, colours, font, position and when lines are cleared",
  },

  /** Single-key shortcuts. */
  SHORTCUTS: {
    title: "Keyboard shortcuts",
    open: "Keyboard shortcuts…",
    enabled: "Use single-key shortcuts",
    about:
      "On the stage, press and hold a key. Everywhere, press and hold keys that presentation remotes send, such as Space. " +
      "A short press does nothing, so a remote cannot interrupt your talk. Esc leaves the stage.",
    change: (/** @type {string} */ action, /** @type {string} */ key) => `${action}: ${key}. Change the key`,
    press: "Press a key…",
    none: "None",
    clear: "Turn off",
    clearOf: (/** @type {string} */ action) => `Turn off the shortcut for: ${action}`,
    defaults: "Restore defaults",
    close: "Close",
    taken: (/** @type {string} */ key, /** @type {string} */ action) => `${key} is taken: ${action}. Press another key, or Esc.`,
    unusable: "That key can't be used. Press a letter, a number or a symbol, or Esc.",
    set: (/** @type {string} */ action, /** @type {string} */ key) => `${action}: ${key}`,
    off: (/** @type {string} */ action) => `${action}: no shortcut`,
    hint: (/** @type {string} */ title, /** @type {string} */ key, /** @type {boolean} */ mustHold) =>
      key ? `${title} (${mustHold ? "hold " : ""}${key})` : title,
    space: "Space",
    actions: {
      talk: "Start or stop",
      pause: "Pause or resume",
      stage: "Stage view",
      larger: "Larger text on the stage",
      smaller: "Smaller text on the stage",
      live: "Jump to live",
      copy: "Copy the text",
      help: "Show the shortcuts",
    },
  },

  /** Words to expect: what is typed, and lists of them. */
  EXPECTED: {
    count: (/** @type {number} */ count, /** @type {number} */ most) => `${count} of ${most} words and names`,
    tooMany: (/** @type {number} */ count, /** @type {number} */ most) =>
      `${count} entries: the first ${most} are used. Remove ${count - most}.`,
    tooLong: (/** @type {string} */ entry, /** @type {number} */ length, /** @type {number} */ most) =>
      `“${entry}” has ${length} characters, more than ${most}, and is left out. Shorten it.`,
    tooLongs: (/** @type {number} */ count, /** @type {number} */ most) =>
      `${count} entries have more than ${most} characters and are left out. Shorten them.`,
    lists: "Saved lists",
    choose: "Choose a saved list",
    none: "No saved lists yet",
    name: "Name of the list",
    save: "Save list",
    remove: "Delete list",
    load: "Load from a file",
    nameMissing: "Give the list a name first.",
    empty: "There are no words to save yet.",
    saved: (/** @type {string} */ name, /** @type {number} */ count) => `Saved “${name}” (${count}).`,
    removed: (/** @type {string} */ name) => `Deleted “${name}”.`,
    loaded: (/** @type {string} */ file, /** @type {number} */ count) =>
      count === 1 ? `1 new entry from “${file}”.` : `${count} new entries from “${file}”.`,
    notText: (/** @type {string} */ file) =>
      `“${file}” is not a text file. Choose a .txt file with one entry per line, or a .csv file.`,
    tooLarge: (/** @type {string} */ file) => `“${file}” is too large for a word list.`,
    notKept: "This browser doesn't let the page store anything: the list lasts until you leave the page.",
  },

  /** Who speaks, and how many. */
  SPEAKERS: {
    number: (/** @type {number} */ number) => `Speaker ${number}`,
    rename: "Name this speaker",
    nameOf: (/** @type {string} */ name) => `Name of ${name}`,
    turnsOf: (/** @type {string} */ name) => `Turns of ${name}`,
    turn: (/** @type {string} */ name, /** @type {string} */ from, /** @type {string} */ to) => `${name}, ${from} to ${to}`,
    title: "Number of speakers, if known",
    least: "At least",
    most: "At most",
    contradiction: "“At least” is more than “At most”: both are ignored.",
    outOfRange: (/** @type {number} */ most) => `Enter a whole number from 1 to ${most}, or leave it empty.`,
  },

  /** What the page of past sessions says. */
  PAST: {
    untitled: "Untitled",
    searching: "Searching …",
    none: "Nothing has been recorded yet.",
    notFound: "No session has all of these words in its title, its names or its text.",
    unreachable: "The server does not answer. Try again in a moment.",
    unauthorized: "This server requires a token. Open the address you were given: it ends in #token=…",
    gone: "There is no such session. It may have been erased.",
    readOnly: "These captions were made in another browser or program: here they can be read and saved, not changed.",
    goesOn: "This session is not over yet: it can be corrected once its final text is there.",
    failed: "This session ended early: this is what was heard.",
    empty: "Nothing was said in this session.",
    changedElsewhere: "Somebody else has changed this transcript. It has been loaded again: make your change once more.",
    notKept: "The server could not keep this. Try again.",
    saved: "Saved.",
    takenBack: "The corrections have been taken back.",
    /** @type {Record<string, string>} */
    revisions: { 0: "Live captions", 1: "Final text", 2: "Corrected text" },
    /** @type {Record<string, string>} */
    states: { open: "live", streaming: "live", draining: "finishing", finalizing: "finishing", failed: "ended early" },
    speakers: (/** @type {number} */ count) => (count === 1 ? "1 speaker" : `${count} speakers`),
    playFrom: (/** @type {string} */ time) => `Play from ${time}`,
    correctLine: (/** @type {string} */ time) => `Correct the line at ${time}`,
    whoSays: (/** @type {string} */ name) => `${name}: change who says this`,
    nobody: "Unknown speaker",
    anotherSpeaker: "Another speaker",
    leaveAll: "Leave them as they are",
    nameOf: (/** @type {string} */ name) => `Name of ${name}`,
    allOf: (/** @type {string} */ name) => `All lines of ${name} are said by`,
    erase: (/** @type {string} */ title) => `Erase “${title}”?`,
    eraseAbout: "Its text and its audio are erased from the server and cannot be brought back.",
    eraseYes: "Erase",
    takeBack: "Take all corrections back?",
    takeBackAbout: "The final text is shown again as it was. What was corrected by hand is lost.",
    takeBackYes: "Take them back",
  },

  /** What stands in the HTML of the page of past sessions. */
  PAST_PAGE: {
    title: "Past sessions",
    live: "Live captions",
    sessions: "Sessions",
    search: "Search in titles, names and text",
    searchPlaceholder: "Search titles and text",
    more: "Show more",
    all: "All sessions",
    sessionTitle: "Title",
    untitled: "Untitled",
    which: "Which text",
    saveAs: "Save as …",
    takeBack: "Take corrections back",
    erase: "Erase",
    whoSays: "Who says this?",
    saidBy: "This line is said by",
    cancel: "Cancel",
    save: "Save",
    keep: "Keep it",
  },

  /** The audience's page. */
  AUDIENCE: {
    untitled: "Live captions",
    captions: "Captions",
    finished: "Finished captions",
    jump: "Jump to live",
    reading: "Text",
    readingHint: "Text size and colours",
    size: "Text size",
    smaller: "Smaller",
    larger: "Larger",
    theme: "Colours",
    auto: "Same as this device",
    light: "Light",
    dark: "Dark",
    save: "Save",
    saveHint: "Save the transcript",
    file: "captions",
  },

  /** What the audience's pill says. */
  PILL: {
    connecting: "Connecting",
    open: "Live",
    paused: "Paused",
    reconnecting: "Reconnecting, nothing is lost",
    finishing: "Finishing",
    over: "Ended",
    broken: "Ended early",
    erased: "Erased",
    unknown: "Not found",
    unauthorized: "Not allowed",
  },

  /** What stands on the audience's page where there is nothing to read. */
  EMPTY: {
    connecting: "Connecting …",
    open: "The captions appear here as soon as somebody speaks.",
    paused: "The captions are paused. They will go on here.",
    reconnecting: "The connection was lost. Reconnecting …",
    over: "Nothing was said in this session.",
    broken: "This session ended before anything was said.",
    erased: "This session was erased.",
    unknown: "This session doesn't exist. It may have been erased: ask for a new link.",
    unauthorized: "This link is incomplete: ask for a new one.",
  },

  /** The editor of how overlay and stage look. */
  LOOK: {
    title: "Overlay and stage",
    about: "Choose how captions look over a video or on a screen of their own. The link below carries your choices.",
    preview: "Preview",
    link: "Link",
    linkAbout: "Open it as a browser source in OBS or on the hall's screen, or paste one here to change it.",
    placeholder: "Paste the link to an overlay or a stage",
    noLink: "This is not a link. It starts with http:// or https://.",
    copy: "Copy the link",
    copied: "Copied",
    notCopied: "Not copied",
    open: "Open",
    reset: "Reset to defaults",
    ownFont: "Same as the page",
    /** @type {Record<string, string>} */
    fields: {
      kind: "Made for",
      clear: "Clear after silence, seconds (0: never)",
      size: "Text size, %",
      lines: "Lines (0: as many as fit)",
      font: "Font",
      color: "Text colour",
      background: "Background colour",
      opacity: "Background opacity, %",
      position: "Position",
      align: "Alignment",
      width: "Width at most, %",
      upper: "All capitals",
      names: "Speaker names",
    },
    /** @type {Record<string, string>} */
    values: {
      overlay: "Overlay over a video",
      stage: "Stage, a screen of its own",
      top: "Top",
      middle: "Middle",
      bottom: "Bottom",
      start: "Where lines begin",
      center: "Centre",
      end: "Where lines end",
    },
    sample: [
      "Good evening, and welcome to all of you.",
      "Thank you! It is a pleasure to be here again, and to see the hall so full.",
      "Before we begin, a word about the captions that you are reading now.",
    ],
    invalid: (/** @type {string} */ name, /** @type {string} */ value, /** @type {string} */ allowed) =>
      `“${name}=${value}” is not valid, so the default is used. ${allowed}`,
    unknown: (/** @type {string} */ name) => `“${name}” is not a setting, so it has no effect.`,
    number: (/** @type {string} */ least, /** @type {string} */ most) => `Use a number from ${least} to ${most}.`,
    oneOf: (/** @type {string} */ values) => `Use ${values}.`,
    flag: "Use 1 or 0.",
    fontName: "Use the name of a font.",
    digits: "Use six hexadecimal digits, such as ffcc00.",
  },

  /** Names of languages for which browsers may have none, by Whisper's code. @type {Record<string, string>} */
  LANGUAGES: {
    ba: "Bashkir",
    bo: "Tibetan",
    br: "Breton",
    fo: "Faroese",
    ht: "Haitian Creole",
    haw: "Hawaiian",
    jw: "Javanese",
    lb: "Luxembourgish",
    ln: "Lingala",
    mg: "Malagasy",
    mi: "Māori",
    nn: "Norwegian Nynorsk",
    oc: "Occitan",
    sa: "Sanskrit",
    sn: "Shona",
    su: "Sundanese",
    tg: "Tajik",
    tk: "Turkmen",
    tt: "Tatar",
    yi: "Yiddish",
    yue: "Cantonese",
  },
};
