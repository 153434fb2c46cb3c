"""One file a family of rules, of the same name as its C++ header."""
