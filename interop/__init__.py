"""The finished files in the software they are made for; `make interop` runs it."""
