"""Every bound on what a peer can make us hold, with its unit and the attack that it stops."""

MESSAGE_BYTES_MAX = 262_144  # bytes a message; a hostile broker announcing 250 MB is cut off here
BALLOT_BYTES_MAX = MESSAGE_BYTES_MAX - 256  # bytes of coded votes, the head left room
PIECE_BYTES_MAX = MESSAGE_BYTES_MAX - 256  # bytes of a delta in one message
PIECES_MAX = 1 << 14  # of a delta, 4 GiB; a forged count cannot reach further
SIGNATURE_BYTES = 64  # of Ed25519
PUBLIC_KEY_BYTES = 32  # of Ed25519
DIGEST_BYTES = 32  # of a ballot's content, under its signature
NAME_BYTES_MAX = 32  # bytes of a mesh or peer name; bounds topics and log lines
PEERS_MAX = 256  # peers a mesh; bounds every table that is kept by origin
HOPS_MAX = 255  # edges a ballot may travel; a forged hop count cannot circle for ever
ROUND_MAX = 2**32 - 1  # a round number; a forged one cannot overflow a counter
CLASSES_MAX = 65_536  # classes a task
PROBES_MAX = 1_000_000  # probes a task
CONTENT_MAX = 1 << 32  # votes, labels or parameters that a saved ballot may claim to hold
ROUNDS_HELD_MAX = 8  # ballots kept of one origin; a flood of future rounds evicts only its own
LAGS_HELD = 64  # recent arrival times kept for the adaptive deadline
REASON_CHARS_MAX = 200  # characters of a refusal that quotes a peer
HISTOGRAM_CELLS_MAX = 1 << 26  # (probe, class) cells of a dense histogram, 256 MiB
COMPLAINTS_MAX = 1_000  # refusals said in words; a peer that varies its garbage cannot fill the log
HOLDINGS_CLASSES_MAX = 256  # classes; with more, what a voter holds is not said
LEVELS_MAX = 8  # levels of sureness a vote may carry
SURENESS_CELLS_MAX = 1 << 22  # (voter, level, class) cells of a table, 32 MiB
CONFUSION_CLASSES_MAX = 64  # classes; a voter costs their square in `dawid-skene`
