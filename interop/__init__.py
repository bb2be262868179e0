"""Tests of the finished files in the software they are made for; `make interop` runs them."""
