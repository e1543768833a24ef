"""Loading models safely and deciding which of them stay in memory."""
