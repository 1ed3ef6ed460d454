"""An age plugin for the tests, without any secret: it keeps the file's key as it is.

It speaks the protocol of C2SP age-plugin: stanzas on standard input and output, one phase after
the other. As `age-plugin-plain` in PATH it seals for `age1plain1…`, and opens that too.
"""

from __future__ import annotations

import base64
import sys


def receive() -> tuple[list[str], bytes]:
    """Return the next stanza: its words and its body."""
    words = sys.stdin.readline().split()[1:]
    body = ""
    while len(line := sys.stdin.readline().rstrip("\n")) == 64:
        body += line
    body += line
    return words, base64.b64decode(body + "=" * (-len(body) % 4))


def send(*words: str, body: bytes = b"") -> None:
    """Send a stanza, whose last line is shorter than 64 characters."""
    text = base64.b64encode(body).decode().rstrip("=")
    lines = [text[at : at + 64] for at in range(0, len(text) + 1, 64)]
    sys.stdout.write("\n".join([f"-> {' '.join(words)}", *lines]) + "\n")
    sys.stdout.flush()


def main(machine: str) -> None:
    """Answer one phase of questions."""
    asked = []
    while (stanza := receive())[0] != ["done"]:
        asked.append(stanza)
    if machine == "recipient-v1":
        keys = [body for words, body in asked if words[0] == "wrap-file-key"]
        for number, key in enumerate(keys):
            send("recipient-stanza", str(number), "plain", body=key)
            receive()
    else:
        send("msg", body=b"touch the plain key")
        receive()
        for words, body in asked:
            if words[:1] == ["recipient-stanza"] and words[2] == "plain":
                send("file-key", words[1], body=body)
                receive()
                break
    send("done")


if __name__ == "__main__":
    main(sys.argv[1].partition("=")[2])
