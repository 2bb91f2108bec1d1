"""All SQL of Milepost, one module and one file of named statements for each noun.

Lock order, for every statement that touches several rows: rows of `workflows` first, by id in
byte order, then whatever hangs below them. Nothing locks a workflow while it holds a lock below
another one. The journal's fast lane never waits for a row at all (`skip locked`).
"""
