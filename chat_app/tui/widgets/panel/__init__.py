"""The live panel: a line, a card for everybody, a lab for engineers."""
