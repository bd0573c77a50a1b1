"""Results that come back: collected, waited for, told of, and written to a file."""
