"""Proof of what happened: heads of the chains anchored outside the database, exports, and their check offline."""
