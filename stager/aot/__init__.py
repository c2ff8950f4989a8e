"""Ahead of time: functions into libraries that need neither Python nor stager, and back into Python."""
