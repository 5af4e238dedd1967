"""Questions that programmers ask, answerable from the docstrings of the standard library."""

# Sent all at once, and then all again. The first few are shown.
QUESTIONS = (
    "how do I find out how similar two strings are?",
    "run a shell command and get its output",
    "how can I pick the n largest items of a list?",
    "how do I keep the results of an expensive function so that it is not called twice?",
    "how do I read a text file into a string?",
    "delete a folder with everything in it",
    "parse a date string into a datetime",
    "how do I wait for several coroutines at the same time?",
    "count how often each element occurs",
    "make a password that nobody can guess",
    "split a URL into its parts",
    "how do I stop a thread from entering code while another one is in it?",
    "temporary file that is deleted when it is closed",
    "how do I check whether an IP address is private?",
    "put an item into a sorted list so that it stays sorted",
    "print nested data structures so that people can read them",
    "how do I compare two files?",
    "limit how long an asynchronous operation may take",
    "replace every match of a regular expression",
    "what is the median of these numbers?",
    "read rows of a CSV file as dictionaries",
    "how do I measure how fast a small piece of code is?",
    "remove leading whitespace that all lines have in common",
    "copy an object and everything that it contains",
    "how do I send an e-mail over an encrypted connection?",
    "how do I iterate over all files in a folder and the folders below it?",
    "escape special characters for HTML",
    "how do I add command-line options to my script?",
    "compute the checksum of a file",
    "how do I write log messages to a file that does not grow forever?",
)

# Sent one after the other, so that each finds the worker idle.
ONE_BY_ONE = (
    "what day of the week is a date?",
    "how do I unpack a zip archive?",
    "shuffle a list",
    "how do I get an environment variable?",
    "how do I share data between processes?",
    "turn bytes into base64 text",
    "exact decimal arithmetic for money",
    "how do I find the longest common prefix of paths?",
)
