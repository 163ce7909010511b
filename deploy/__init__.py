"""What an operator takes: nginx' files, and the same topology by hand.  No part of the wheel."""
