"""Jobs for those who follow them: polled, waited for, told event by event."""
