"""A model's Markdown, drawn line by line while it grows.

    text -> chat_app.text.markdown (blocks, one line of text at a time)
         -> inline (a paragraph's emphasis, code, links), code (highlighting), table (columns)
         -> layout (blocks as lines of a width)
         -> widget (one for a whole reply; it draws only what is in sight)

Each step keeps what it made of earlier text. So adding to a reply costs time in proportion to what is new,
whatever block it stands in.

It follows CommonMark with GitHub's tables, task lists and strikethrough, but for three things that replies
need. A line break in a paragraph stays one. `\\(` and `\\[`, which begin a formula, keep their backslash.
HTML is text.
"""
