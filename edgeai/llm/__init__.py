"""Everything that touches llama.cpp: tokens in, tokens out, and the states kept in between."""
